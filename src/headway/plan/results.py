"""Where a plan goes: a terminal, JSON, a page; and what a command exits with."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from headway.bench import given
from headway.bench.export import ExportError, write_file
from headway.plan.errors import PlanError
from headway.plan.outcome import Plan, to_json
from headway.plan.report.page import plan_page
from headway.plan.show import show

EXIT_OK, EXIT_NONE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def check_outputs(json_file: Path | None, html_file: Path | None) -> None:
    """Before anything is searched. Raises ``PlanError`` for what can't be written."""
    try:
        given.check_outputs({"--json": json_file, "--html": html_file})
    except ValueError as error:
        raise PlanError(str(error)) from None


def write(found: Plan, json_file: Path | None, html_file: Path | None, *, is_whole: bool = False) -> int:
    """The exit code. ``is_whole``: see ``show``."""
    try:
        if json_file == Path("-"):
            sys.stdout.buffer.write(to_json(found))
            sys.stdout.flush()
        else:
            show(found, Console(), is_whole=is_whole)
            if json_file is not None:
                write_file(json_file, [to_json(found)])
        if html_file is not None:
            write_file(html_file, [plan_page(found).encode()])
    except ExportError as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_NONE
    if found.best is None and json_file == Path("-"):
        print(f"headway: no set-up keeps it: {found.best_effort}", file=sys.stderr)
    return EXIT_OK if found.best is not None else EXIT_NONE
