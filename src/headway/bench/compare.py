"""What changed from one run to another, and whether it is more than noise.

Levels are matched by load. The requests of a level are put into stretches of time at least as long as a request lives,
since those of one moment share a queue and are alike; how the stretches differ is what says how sure a figure is.
Shares and quantiles are compared by the interval of their difference, rates by a rank test over the stretches. A change
is real if chance alone would bring it about less than once in a hundred comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headway.bench.changes import (
    Change,
    Side,
    Sureness,
    by_figures,
    gaps,
    gaps_compared,
    kept,
    latencies,
    rates,
)
from headway.bench.figures import Run
from headway.bench.record import Record

__all__ = ["Change", "Comparison", "LevelChanges", "Sureness", "compare"]


class LevelChanges(msgspec.Struct, kw_only=True):
    name: str
    changes: list[Change]
    warnings: list[str] = []


class Comparison(msgspec.Struct, kw_only=True):
    """``unmatched``: levels that only one of the runs has. ``warnings``: what else differs, or speaks against it."""

    before: str
    after: str
    levels: list[LevelChanges]
    unmatched: list[str] = []
    warnings: list[str] = []


def compare(
    before: Run, after: Run, records_before: Sequence[Sequence[Record]], records_after: Sequence[Sequence[Record]]
) -> Comparison:
    """The records are by level, as the store has them. Of a level without any, what its figures tell is compared."""
    result = Comparison(before=before.id, after=after.id, levels=[], warnings=_differences(before, after))
    left = list(zip(after.levels, records_after, strict=True))
    for level, records in zip(before.levels, records_before, strict=True):
        found = next((index for index, (other, _) in enumerate(left) if other.load == level.load), None)
        if found is None:
            result.unmatched.append(f"{level.name} (only in {before.id})")
            continue
        other, other_records = left.pop(found)
        result.levels.append(_level(Side(level, records), Side(other, other_records)))
    result.unmatched += [f"{level.name} (only in {after.id})" for level, _ in left]
    return result


_TARGET_FIELDS = ("model", "engine", "version", "api")
_MAY_DIFFER = {"seed"}
"""Other prompts of the same kind: what is compared is meant to be more than those."""


def _differences(before: Run, after: Run) -> list[str]:
    pairs = [(name, before.target.get(name), after.target.get(name)) for name in _TARGET_FIELDS]
    found = [f"the {name} differs: {old}, then {new}" for name, old, new in pairs if old != new]
    for what, one, two in (("workload", before.workload, after.workload), ("machine", before.machine, after.machine)):
        names = sorted(name for name in {*one, *two} - _MAY_DIFFER if one.get(name) != two.get(name))
        if names:
            found.append(f"the {what} differs in {', '.join(names)}")
    if before.definitions != after.definitions:
        found.append("the figures are defined differently")
    return found


def _level(before: Side, after: Side) -> LevelChanges:
    result = LevelChanges(name=before.level.name, changes=[])
    for side, when in ((before, "before"), (after, "after")):
        if side.level.client.bound is not None:
            result.warnings.append(f"{when}, the client was the limit: {side.level.client.bound}")
        if side.level.state != "complete":
            result.warnings.append(f"{when}, the level is {side.level.state}: {side.level.reason}")
    if before.promises() != after.promises():
        result.warnings.append("the targets differ: attainment and goodput are against each run's own")
    for name in (each for each in before.figures if each in after.figures):
        if before.has_figures_only or after.has_figures_only:
            result.changes += by_figures(before.figures[name], after.figures[name])
            continue
        result.changes += latencies(before, after, name)
        compared = gaps_compared(before.figures[name], after.figures[name])
        if compared is None:
            result.warnings.append(
                f"{name or 'all'}: one run has ITL and the other only gaps between chunks; those can't be compared"
            )
        else:
            result.changes += gaps(before, after, name, compared)
        result.changes += kept(before, after, name)
        result.changes += rates(before, after, name)
    return result
