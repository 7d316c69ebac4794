"""A few runs, held to what they showed when they were recorded: making the simulator quicker may change none of them.

Recorded anew, when what a run should show has changed, by ``python -m tests.sim.test_recorded``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.sim.clients import OPENAI_SDK
from headway.sim.cluster import simulate_cluster
from headway.sim.hardware import HARDWARE, Noisy
from headway.sim.result import Result
from headway.sim.router import LeastTtft, RoundRobin
from headway.sim.workloads import named
from headway.simulate import scheduler_maker

RECORDED = Path(__file__).with_name("recorded_runs.json")
ROUTERS: dict[str, type[RoundRobin] | type[LeastTtft]] = {"round-robin": RoundRobin, "least-ttft": LeastTtft}
CASES = (
    ("vllm", "azure-conv", "round-robin", 10.0, 0),
    ("vllm", "azure-code", "least-ttft", 8.0, 1),
    ("vllm", "mooncake", "least-ttft", 1.5, 2),
    ("headway", "azure-conv", "least-ttft", 12.0, 3),
    ("headway", "chat+batch", "round-robin", 12.0, 4),
    ("headway", "bursty-chat", "round-robin", 25.0, 5),
    ("aimd", "mixed", "round-robin", 12.0, 6),
    ("prefill-first", "tight", "least-ttft", 15.0, 7),
)
"""Policy, workload, router, requests a second for each of two machines, seed. Odd seeds have noise."""


def run(policy: str, workload: str, router: str, rate: float, seed: int) -> Result:
    hardware = HARDWARE["h100-llama-8b"]
    maker = scheduler_maker(policy, hardware)
    return simulate_cluster(
        named(workload),
        [Noisy(hardware, 0.1 * (seed % 2))] * 2,
        [maker] * 2,
        router=ROUTERS[router](),
        rate=2 * rate,
        seconds=6.0,
        seed=seed,
        client=OPENAI_SDK,
    )


def numbers(figures: Any, name: str = "") -> dict[str, float]:
    """All numbers, by where they are."""
    if isinstance(figures, dict):
        return {path: n for key, part in figures.items() for path, n in numbers(part, f"{name}/{key}").items()}
    if isinstance(figures, list | tuple):
        return numbers(dict(enumerate(figures)), name)
    return {} if figures is None else {name: float(figures)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_runs_show_what_they_showed(case: tuple[str, str, str, float, int]) -> None:
    recorded = json.loads(RECORDED.read_text())[" ".join(map(str, case))]
    shown = numbers(run(*case).figures())
    assert shown == pytest.approx(recorded, rel=1e-9)  # the last bits of a logarithm are the platform's own


if __name__ == "__main__":
    runs = {" ".join(map(str, case)): numbers(run(*case).figures()) for case in CASES}
    RECORDED.write_text(json.dumps(runs, indent=1) + "\n")
