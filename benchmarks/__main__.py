"""``python -m benchmarks`` lists the benchmarks; ``python -m benchmarks NAME --json FILE`` runs one.

The figures go to FILE (``-`` is standard output) as one flat JSON object, with the machine, the versions and the
command line; what happens meanwhile goes to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks.machine import describe

BENCHMARKS = {
    "bench_agreement": "headway bench beside vLLM's, GuideLLM's and AIPerf's clients against one server: do they agree",
    "bench_cost": "what those clients cost: processor time per streamed token, the most tokens a second from one core",
    "cpu": "Headway beside other servers on a CPU, same checkpoint and requests: latency, throughput, capacity, limits",
    "cpu_quality": "what bf16 and int8 cost in quality: the bundled model's perplexity on held-out chats",
    "cpu_kernels": "compiled linear layers and attention: their share of the machine's limits, beside torch",
    "engine": "a real server on random weights at a real shape: speed, memory, and how far from the machine's limits",
    "edge": "the HTTP edge over a fake engine: CPU time per streamed token, and the worst stall of the event loop",
    "plan": "the planner against what was measured: published points, a replay, the article, itself; and its speed",
    "policy": "the policies in virtual time: capacity, overload, slack, cost, ablation",
    "promise": "is the promise kept on a real server: the adaptive policy against static settings, in open loop",
    "steptime": "the step-time model on the real engine: its error and coverage, alone and with the speed halved",
    "tune": "does headway tune find the true points of modelled machines, and on a real engine the same one each time",
}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("Benchmarks (python -m benchmarks NAME --help says more):")
        for name, what in BENCHMARKS.items():
            print(f"  {name:15} {what}")
        return 0
    name = sys.argv[1]
    if name not in BENCHMARKS:
        print(f"There is no benchmark {name!r}. There are: {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    module = importlib.import_module(f"benchmarks.{name}")
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=module.__doc__)
    parser.add_argument("--json", metavar="FILE", default="-", help="where the figures go; - is standard output")
    module.add_arguments(parser)
    arguments = parser.parse_args(sys.argv[2:])
    figures = {
        "benchmark": name,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        **describe(),
        **module.run(arguments),
    }
    text = json.dumps(figures, indent=2)
    if arguments.json == "-":
        print(text)
    else:
        Path(arguments.json).write_text(text + "\n")
        print(f"Written to {arguments.json}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
