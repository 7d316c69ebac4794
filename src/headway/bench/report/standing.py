"""Did it keep its promise, how far, and what limits it: in words, from the figures of a run.

A level keeps the promise of a class when at least ``TARGET_ATTAINMENT`` of its requests are in SLO, and surely so when
the whole interval is above that. Between the two is *undecided*, which is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headway.bench.figures import ClassFigures, Level, Run
from headway.bench.report.wording import (
    MISS_WORDS,
    PART_WORDS,
    attainment_interval,
    class_name,
    classes_held,
    duration,
    has_targets,
    number,
    share,
)
from headway.policy.slo import TARGET_ATTAINMENT


class Standing(StrEnum):
    KEPT = "kept"
    UNDECIDED = "undecided"
    MISSED = "missed"
    NO_PROMISE = "no target"
    VOID = "not valid"
    """The client was the limit, or nothing was measured: it says nothing about the server."""


_WORST_FIRST = (Standing.VOID, Standing.MISSED, Standing.UNDECIDED, Standing.KEPT, Standing.NO_PROMISE)


def class_standing(figures: ClassFigures) -> Standing:
    if not figures.offered or figures.attainment is None:
        return Standing.VOID
    if not has_targets(figures):
        return Standing.NO_PROMISE
    if figures.attainment_low is None or figures.attainment_high is None:
        return Standing.UNDECIDED
    if figures.attainment_low >= TARGET_ATTAINMENT:
        return Standing.KEPT
    return Standing.MISSED if figures.attainment_high < TARGET_ATTAINMENT else Standing.UNDECIDED


def standing(level: Level) -> Standing:
    """Of the class that is worst off."""
    if level.client.bound is not None:
        return Standing.VOID
    found = {class_standing(each) for each in classes_held(level)} or {Standing.VOID}
    if found == {Standing.VOID, Standing.NO_PROMISE}:
        return Standing.NO_PROMISE
    if len(found) > 1:
        found.discard(Standing.VOID)
    return next(each for each in _WORST_FIRST if each in found)


def likely_kept(level: Level) -> bool:
    """Kept as far as measured: surely, or with the share measured above the target but the interval across it."""
    if standing(level) is Standing.UNDECIDED:
        held = [each for each in classes_held(level) if has_targets(each) and each.attainment is not None]
        return all((each.attainment or 0.0) >= TARGET_ATTAINMENT for each in held)
    return standing(level) is Standing.KEPT


def chosen_level(run: Run) -> int | None:
    """The number of the level with the most goodput of those that keep the promise, sure ones before likely ones;
    without any promise the one with the highest throughput. None: there is none."""

    def best(numbers: list[int], by: str) -> int | None:
        return max(numbers, key=lambda number: getattr(run.levels[number].classes[0], by), default=None)

    numbers = [number for number, level in enumerate(run.levels) if level.classes]
    stands = {number: standing(run.levels[number]) for number in numbers}
    sure = best([each for each in numbers if stands[each] is Standing.KEPT], "goodput")
    if sure is not None:
        return sure
    likely = best([each for each in numbers if likely_kept(run.levels[each])], "goodput")
    if likely is not None:
        return likely
    valid = [each for each in numbers if stands[each] is not Standing.VOID]
    return best(valid, "throughput") if all(stands[each] is Standing.NO_PROMISE for each in valid) else None


def why_chosen(level: Level) -> str:
    """Why ``chosen_level`` is this one."""
    if standing(level) is Standing.NO_PROMISE:
        return "the highest throughput"
    return "most goodput of those that keep the promise"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``headline``: one line. ``details``: sentences."""

    standing: Standing
    headline: str
    details: tuple[str, ...]


def verdict(run: Run) -> Verdict:
    measured = [level for level in run.levels if level.classes and level.classes[0].offered]
    if not measured:
        return Verdict(Standing.VOID, "Nothing was measured", tuple(level.reason or "" for level in run.levels))
    bound = [level for level in measured if level.client.bound is not None]
    if len(bound) == len(measured):
        return Verdict(
            Standing.VOID,
            "The client was the limit, not the server",
            (sentence(bound[0].client.bound or ""), "These figures say nothing about the server."),
        )
    chosen = chosen_level(run)
    valid = [level for level in measured if level.client.bound is None]
    if chosen is None:
        return _none_kept(valid)
    level = run.levels[chosen]
    if standing(level) is Standing.NO_PROMISE:
        fastest = f"The highest throughput was {number(level.classes[0].throughput)} tokens/s, at {level.name}."
        return Verdict(Standing.NO_PROMISE, "Measured without targets: there was no promise to keep", (fastest,))
    return _kept(level, valid)


def _kept(level: Level, valid: list[Level]) -> Verdict:
    held = [each for each in classes_held(level) if has_targets(each)]
    worst = min(held, key=lambda each: each.attainment or 0.0)
    of_class = f" of class {worst.name}" if worst.name and len(held) > 1 else ""
    said = f"{share(worst.attainment)} of requests{of_class} in SLO (95 % interval {attainment_interval(worst)})"
    details = [f"{said}, at {number(level.classes[0].throughput)} output tokens/s."]
    details += [margin(each) for each in held if margin(each)]
    beyond = [each for each in valid if load_of(each) > load_of(level)]
    beyond = [each for each in beyond if standing(each) in (Standing.MISSED, Standing.UNDECIDED)] or [
        each for each in valid if each is not level and standing(each) is Standing.MISSED
    ]
    if beyond:
        nearest = min(beyond, key=load_of)
        how = "missed it" if standing(nearest) is Standing.MISSED else "is too close to call"
        details.append(f"{nearest.name} {how}: {limit(nearest)}.")
    elif len(valid) > 1:
        details.append("No level went beyond what the server can carry: its limit is above the highest load here.")
    if standing(level) is Standing.UNDECIDED:
        details.append("The interval crosses 95 %: measure longer to be sure.")
        return Verdict(Standing.UNDECIDED, f"Probably kept at {level.name}", tuple(details))
    up_to = "up to" if len(valid) > 1 else "at"
    return Verdict(Standing.KEPT, f"Promise kept {up_to} {level.name}", tuple(details))


def _none_kept(valid: list[Level]) -> Verdict:
    nearest = max(valid, key=lambda level: level.classes[0].attainment or 0.0)
    details = [f"Nearest was {nearest.name}: {limit(nearest)}."] if len(valid) > 1 else [f"{limit(nearest)}."]
    details += [margin(each) for each in classes_held(nearest) if has_targets(each) and margin(each)]
    everywhere = "at every level" if len(valid) > 1 else f"at {nearest.name}"
    if any(standing(level) is Standing.UNDECIDED for level in valid):
        return Verdict(Standing.UNDECIDED, f"Undecided {everywhere}", tuple(details))
    return Verdict(Standing.MISSED, f"Promise missed {everywhere}", tuple(details))


def load_of(level: Level) -> float:
    """Requests at once of a closed loop, requests a second of an open one: as asked for, else as it was."""
    for key in ("concurrency", "rate"):
        asked = level.load.get(key)
        if isinstance(asked, (int, float)) and asked:
            return float(asked)
    return level.classes[0].request_rate if level.classes else 0.0


def sentence(text: str) -> str:
    """Begun and ended as one."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def margin(figures: ClassFigures) -> str:
    """How far p95 is from its targets; empty where there are none."""
    parts = []
    for part, target_s in targets(figures).items():
        found = figures.latencies.get(part)
        if found is not None:
            ratio = f"{100.0 * found.p95 / target_s:.0f} % of its target of {duration(target_s)}"
            parts.append(f"p95 {PART_WORDS[part]} is {duration(found.p95)}, {ratio}")
    name = f"{figures.name}: " if figures.name else ""
    return f"{name}{'; '.join(parts)}." if parts else ""


def targets(figures: ClassFigures) -> dict[str, float]:
    """In seconds, by part; what is promised only."""
    of_parts = {"ttft": figures.ttft_target_s, "itl": figures.itl_target_s, "e2e": figures.e2e_target_s}
    return {part: target_s for part, target_s in of_parts.items() if target_s is not None}


def limit(level: Level) -> str:
    """What most misses are, of the class that is worst off."""
    held = [each for each in classes_held(level) if has_targets(each)] or level.classes[:1]
    worst = min(held, key=lambda each: each.attainment or 0.0)
    of_class = f" of {class_name(worst)}" if worst.name and len(held) > 1 else ""
    said = f"{share(worst.attainment)}{of_class} in SLO ({attainment_interval(worst)})"
    total = sum(worst.misses.values())
    if not total:
        return said
    cause, count = max(worst.misses.items(), key=lambda item: item[1])
    word = MISS_WORDS.get(cause, cause)
    what = f"requests {word}" if cause in ("refused", "timeout", "broken") else word
    return f"{said}, most misses: {what} ({count} of {total})"


def keeps(figures: ClassFigures, part: str, target_s: float) -> bool:
    """Whether the p95 of a part is within its target; those refused or failed count as never served, where a figure
    has one value a request."""
    found = figures.latencies.get(part)
    if found is None:
        return False
    if part == "itl" or figures.ok == figures.offered:
        return found.p95 <= target_s
    return found.p95_with_misses is not None and found.p95_with_misses <= target_s
