"""The policies in virtual time: the server's own scheduler on simulated machines, every policy on the same calls.

Without a part, a quick version of all parts; with --full the real one. Figures are the same for the same seeds, except
those of ``cost``, which is measured.
"""

from __future__ import annotations

import argparse
import importlib

from benchmarks.policy.figures import Figure
from benchmarks.policy.pool import Pool
from benchmarks.policy.setting import hardware_sources
from headway.sim.hardware import HARDWARE

PARTS = {
    "capacity": "the largest load that is kept, against every static setting",
    "overload": "what is kept beyond capacity, by whom, and how soon it is over",
    "slack": "how much of what conversations leave becomes batch work",
    "cost": "microseconds of planning, by how many run and wait",
    "ablation": "what each part of the policy is worth",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", nargs="?", choices=tuple(PARTS), help="; ".join(f"{k}: {v}" for k, v in PARTS.items()))
    parser.add_argument("--quick", action="store_true", help="short runs (the default without a part)")
    parser.add_argument("--full", action="store_true", help="long runs (the default with a part)")
    parser.add_argument("--hardware", choices=tuple(HARDWARE), help="capacity: of this machine only")
    parser.add_argument("--jobs", type=int, default=2, help="processes at work")


def run(arguments: argparse.Namespace) -> dict[str, Figure]:
    quick = arguments.quick or (arguments.part is None and not arguments.full)
    pool = Pool(arguments.jobs)
    figures: dict[str, Figure] = {"scale": "quick" if quick else "full", **hardware_sources()}
    for part in [arguments.part] if arguments.part else PARTS:
        module = importlib.import_module(f"benchmarks.policy.{part}")
        only = {"hardware": arguments.hardware} if arguments.hardware and part == "capacity" else {}
        figures |= module.measure(quick=quick, pool=pool, **only)
    return figures
