"""What was found, in sentences; and a step in one line."""

from __future__ import annotations

from headway.bench.report.wording import duration, number, share
from headway.tune.observation import FAILURES, SHARES
from headway.tune.probe import Found, Outcome
from headway.tune.result import PartSeen, StepTaken
from headway.tune.saturation import THROUGHPUT

PART_WORDS = {"ttft": "TTFT", "itl": "ITL", "e2e": "E2E", "failures": "failed", "misses": "out of SLO"}


def part_name(part: str) -> str:
    """``conversational ttft`` is "conversational TTFT"."""
    name, _, word = part.rpartition(" ")
    return f"{name} {PART_WORDS.get(word, word)}".strip()


def part_value(part: str, value: float | None) -> str:
    return "no end" if value is None else share(value) if part in SHARES else duration(value)


def load_name(stage: str, load: float) -> str:
    if stage == "tokens":
        return f"{load:g} tokens a step"
    return f"{load:.3g} requests/s" if stage == "rate" else f"batch {load:g}"


def part_said(part: str, seen: PartSeen) -> str:
    """``ITL 41 ms (39 to 44 ms, target 100 ms)``."""
    low, high = part_value(part, seen.low), part_value(part, seen.high)
    interval = f"{low} or more" if seen.high is None else f"{low} to {high}"
    return f"{part_name(part)} {part_value(part, seen.value)} ({interval}; target {part_value(part, seen.target)})"


def step_line(step: StepTaken) -> str:
    """Without its verdict."""
    if step.void is not None:
        return f"{load_name(step.stage, step.load)}: {step.void}"
    parts = [part_said(part, seen) for part, seen in step.parts.items() if part != "failures" or seen.value]
    figures = f"{number(step.throughput)} tokens/s, n {step.samples}"
    return f"{load_name(step.stage, step.load)}: {', '.join([*parts, figures])}"


def skipped_line(step: StepTaken) -> str:
    """Empty if none was."""
    if not step.skipped:
        return ""
    return f"skipped {', '.join(f'{load:.4g}' for load in step.skipped)}: {step.why}"


def _breaks(part: str | None) -> str:
    if part in SHARES:
        return "too many requests fail" if part == FAILURES else "too many are out of SLO"
    return f"{part_name(part)} breaks it" if part else "it is broken"


def sentence(stage: str, outcome: Outcome, most: float) -> str:
    if outcome.part == THROUGHPUT:
        return _sentence_of_throughput(stage, outcome)

    def named(load: float | None) -> str:
        return "nothing" if load is None else load_name(stage, load)

    kept, broken = named(outcome.low), named(outcome.high)
    match outcome.found:
        case Found.POINT:
            return f"{named(outcome.load)} keeps the promise; at {broken} {_breaks(outcome.part)}"
        case Found.UNDECIDED:
            sure = f"it is surely kept at {kept}" if outcome.low else "it is nowhere surely kept"
            beyond = f"and surely broken at {broken}" if outcome.high is not None else "and nowhere surely broken"
            return f"undecided: {named(outcome.load)} is the best estimate; {sure} {beyond}"
        case Found.NONE:
            return f"no point: at {broken} {_breaks(outcome.part)} already"
        case Found.OPEN:
            why = {"rate": ", twice what the point above got done,", "batch": ", the most it was to be,"}.get(stage, "")
            return f"{named(outcome.load)} keeps the promise, and no more than {named(most)}{why} was tried"
        case Found.CLIENT:
            return f"at least {named(outcome.load)}: beyond it this client was the limit, not the server"
        case Found.SERVER:
            return f"{named(outcome.load)} keeps the promise; {outcome.reason}"
        case _:
            so_far = f"; {named(outcome.low)} keeps the promise" if outcome.low is not None else ""
            return f"{_cut(outcome)}{so_far}"


def _cut(outcome: Outcome) -> str:
    return f"ended before it could tell ({outcome.reason or 'no probes left'})"


def _sentence_of_throughput(stage: str, outcome: Outcome) -> str:
    """Where nothing is promised."""
    if outcome.load is None:
        return _cut(outcome)
    named = load_name(stage, outcome.load)
    match outcome.found:
        case Found.POINT:
            return f"{named}: more at once brings no more tokens a second"
        case Found.OPEN:
            return f"{named} brought the most tokens a second, and no more at once was tried"
        case Found.CLIENT:
            return f"at least {named}: beyond it this client was the limit, not the server"
        case Found.SERVER:
            return f"{named} is the best that the server can be set to; {outcome.reason}"
        case _:
            return f"{_cut(outcome)}; the best so far is {named}"
