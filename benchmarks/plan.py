"""The planner against what was measured: ``python -m benchmarks plan PART``, where PART is one of points (published
benchmark points), replay (a measured overload of vLLM), article (the claims this project was started from), itself
(this machine's own server) and speed (a million requests in virtual time)."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType

PARTS = ("points", "replay", "article", "itself", "speed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name in PARTS:
        module = _module(name)
        # --json may stand on either side of the part; without this the part's default would win.
        part = parts.add_parser(name, description=module.__doc__)
        part.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS, help="where the figures go")
        module.add_arguments(part)


def run(arguments: argparse.Namespace) -> dict[str, float | int | str | None]:
    figures: dict[str, float | int | str | None] = _module(arguments.part).run(arguments)
    return figures


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.plan_{name}")
