"""Number 16: the same calls give the same events, byte for byte, wherever and whenever they are made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.policy import swarm

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(40, 80)
SEEN = ("Preempted", "resumed=True", "ABORTED", "FAILED", "EXPIRED", "Rejected", "Demoted", "SHED")
"""All of it happens in some of these worlds."""


def log_of_a_fresh_process(hash_seed: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.policy.swarm", *map(str, SEEDS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second, rest = run.stdout.split("\nend\n")
    assert rest == ""
    return [first, second]


def test_the_event_log_depends_on_the_calls_alone() -> None:
    logs = [swarm.log(*SEEDS), *log_of_a_fresh_process("1"), *log_of_a_fresh_process("4242")]
    assert all(name in logs[0] for name in SEEN)
    assert all(each == logs[0] for each in logs)
