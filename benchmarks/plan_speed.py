"""How fast the planner's simulator is: requests of Azure's conversation trace on modelled GPUs behind a router, on one
core; the processor time of it, and whether memory stays flat."""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time

from headway.sim.cluster import simulate_into
from headway.sim.hardware import HARDWARE
from headway.sim.result import Window
from headway.sim.router import LeastTtft, RoundRobin
from headway.sim.tally import Tally
from headway.sim.workloads import named
from headway.simulate import scheduler_maker

ROUTERS: dict[str, type[RoundRobin] | type[LeastTtft]] = {"round-robin": RoundRobin, "least-ttft": LeastTtft}
WORKLOAD = "azure-conv"
TARGET_S, TARGET_REQUESTS = 300.0, 1_000_000
PARTS = 10
"""In so many parts of the run the memory is looked at."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=50_000, help="about so many (default: 50,000)")
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--hardware", choices=HARDWARE, default="h100-llama-8b")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second for each GPU (default: 10)")
    parser.add_argument("--policy", action="append", help="vllm and headway if not given; may be repeated")
    parser.add_argument("--router", choices=ROUTERS, default="round-robin")


def run(arguments: argparse.Namespace) -> dict[str, float | int | str]:
    figures: dict[str, float | int | str] = {
        "workload": WORKLOAD,
        "hardware": arguments.hardware,
        "gpus": arguments.gpus,
        "router": arguments.router,
        "rate_requests_s": arguments.rate * arguments.gpus,
        "target_processor_s_of_a_million": TARGET_S,
    }
    for policy in arguments.policy or ("vllm", "headway"):
        figures |= {f"{policy}_{name}": value for name, value in _run(policy, arguments).items()}
    return figures


def _run(policy: str, arguments: argparse.Namespace) -> dict[str, float | int]:
    hardware, rate = HARDWARE[arguments.hardware], arguments.rate * arguments.gpus
    seconds = arguments.requests / rate
    load, maker = named(WORKLOAD), scheduler_maker(policy, hardware)
    tally = Tally(Window(0.0, seconds))
    memory = _Memory(policy, seconds)
    gc.collect()
    gc.disable()  # nothing here is cyclic, as flat memory shows; looking for cycles would be a tenth of the time
    began_s, began_wall_s = time.process_time(), time.perf_counter()
    _, steps = simulate_into(
        tally,
        load,
        [hardware] * arguments.gpus,
        [maker] * arguments.gpus,
        router=ROUTERS[arguments.router](),
        rate=rate,
        seconds=seconds,
        on_progress=memory.at,
    )
    gc.enable()
    processor_s, wall_s = time.process_time() - began_s, time.perf_counter() - began_wall_s
    [name] = tally.classes
    summary = tally.summary(name)
    return {
        "requests": summary.offered,
        "served": summary.served,
        "steps": steps,
        "output_tokens": round(summary.throughput * seconds),
        "virtual_s": round(seconds, 1),
        "processor_s": round(processor_s, 1),
        "wall_s": round(wall_s, 1),
        "processor_us_of_a_request": round(1e6 * processor_s / summary.offered, 1),
        "processor_s_of_a_million": round(TARGET_REQUESTS * processor_s / summary.offered, 1),
        "memory_mib_after_a_tenth": round(memory.first_mib, 1),
        "memory_mib_at_the_end": round(memory.last_mib, 1),
        "attainment": round(summary.attainment or 0.0, 4),
        "ttft_p95_ms": round(1000 * (summary.ttft.p95 or 0.0), 1),
        "itl_p95_ms": round(1000 * (summary.itl.p95 or 0.0), 1),
    }


class _Memory:
    """The most memory that was in use so far, at the end of each part of a run."""

    def __init__(self, policy: str, seconds: float) -> None:
        self.first_mib = self.last_mib = 0.0
        self._policy = policy
        self._part_s = seconds / PARTS
        self._parts = 0

    def at(self, virtual_s: float) -> None:
        if virtual_s < (self._parts + 1) * self._part_s:
            return
        self._parts = int(virtual_s / self._part_s)
        self.last_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.first_mib = self.first_mib or self.last_mib
        text = f"{self._policy}: {self._parts} of {PARTS}, {time.process_time():.0f} s, {self.last_mib:.0f} MiB"
        print(text, file=sys.stderr, flush=True)
