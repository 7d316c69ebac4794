"""Every step as it happens: a line with its values, their intervals and the verdict."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from headway.tune.observation import Verdict
from headway.tune.result import Stage, StepTaken
from headway.tune.wording import skipped_line, step_line

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.UNDECIDED: "yellow", Verdict.VOID: "magenta"}
WORDS = {Verdict.PASS: "kept", Verdict.FAIL: "broken", Verdict.UNDECIDED: "undecided", Verdict.VOID: "does not count"}


class ConsoleShow:
    """Coloured on a terminal, the same lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def stage(self, stage: Stage, title: str) -> None:
        self._console.print()
        self._console.print(Text(title, style="bold"), soft_wrap=True)

    def step(self, step: StepTaken) -> None:
        if skipped := skipped_line(step):
            self._console.print(Text(f"  {skipped}", style="dim"), soft_wrap=True)
        verdict = Verdict(step.verdict)
        line = Text("  ")
        line.append(f"{WORDS[verdict]:<14} ", style=STYLES[verdict])
        line.append(step_line(step))
        if not step.skipped:
            line.append(f"  ({step.why})", style="dim")
        self._console.print(line, soft_wrap=True)
