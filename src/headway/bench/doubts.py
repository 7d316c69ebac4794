"""What in a level's figures is to be taken with care, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from headway.bench.figures import ClassFigures
from headway.bench.metrics import in_window, is_counted
from headway.bench.record import Outcome, Record
from headway.bench.statistics import decided, samples_needed
from headway.bench.window import Window
from headway.policy.slo import TARGET_ATTAINMENT

MISMATCH_MAX = 0.02
"""Share by which two counts of the same tokens may differ, and of replies that may be shorter than asked for."""
CACHED_MAX = 0.1
"""Share of prompt tokens found in the server's prefix cache that a workload of fresh prompts may have."""
CUT_MAX = 0.01
DEMOTED_MAX = 0.01
FLEX = ("flex", "batch")
"""What asks for the tier that is served in what the others leave."""
P95_SAMPLES_MIN = 72
"""Fewer values don't bound a p95 from above."""


def doubts(
    records: Sequence[Record],
    window: Window,
    figures: Sequence[ClassFigures],
    *,
    exact_output: bool = True,
    expects_cached: bool = False,
    template_tokens: int = 0,
) -> list[str]:
    """``figures``: of ``records`` in ``window``. ``exact_output``: the server was asked for just so many tokens.
    ``expects_cached``: the workload means prompts to share prefixes. ``template_tokens``: what the server's chat
    template adds to a prompt."""
    within = in_window(records, window.span_s)
    whole = [each for each in within if each.is_ok]
    found = [
        f"the window is {window.warning}" if window.warning else None,
        _counts(whole),
        _prompts(whole, template_tokens),
        _lengths(whole) if exact_output else None,
        None if expects_cached else _cached(whole),
        _chunks(whole),
        _cut(within),
        _demoted(within),
    ]
    return [each for each in chain(found, *map(_samples, _told_apart(figures))) if each]


def _told_apart(figures: Sequence[ClassFigures]) -> Sequence[ClassFigures]:
    """Classes where there are several, else all together: the same thing isn't said twice."""
    return figures[1:] if len(figures) > 2 else figures[:1]


def _share(value: float, of: float) -> float:
    return value / of if of else 0.0


def _counts(whole: Sequence[Record]) -> str | None:
    both = [each for each in whole if each.is_counted and each.usage_completion is not None and each.chunk_s]
    said = sum(each.usage_completion or 0 for each in both)
    counted = sum(sum(each.chunk_tokens) for each in both)
    if abs(_share(counted - said, max(said, 1))) <= MISMATCH_MAX:
        return None
    return f"the server says it wrote {said} tokens, but {counted} were counted in its streams; the server was believed"


def _prompts(whole: Sequence[Record], template_tokens: int) -> str | None:
    both = [each for each in whole if each.usage_prompt is not None and each.prompt_tokens]
    asked = sum(each.prompt_tokens + template_tokens for each in both)
    said = sum(each.usage_prompt or 0 for each in both)
    if abs(_share(said - asked, asked)) <= MISMATCH_MAX:
        return None
    return (
        f"prompts were {said / len(both):.4g} tokens on average by the server's count, {asked / len(both):.4g} by the "
        "workload's: another tokenizer, or a chat template"
    )


def _lengths(whole: Sequence[Record]) -> str | None:
    known = [each for each in whole if each.max_tokens and (each.is_counted or each.usage_completion is not None)]
    other = [each for each in known if each.tokens != each.max_tokens]
    if _share(len(other), len(known)) <= MISMATCH_MAX:
        return None
    mean, asked = sum(each.tokens for each in known) / len(known), sum(each.max_tokens for each in known) / len(known)
    return (
        f"{len(other)} of {len(known)} replies did not have the length that was asked for (mean {mean:.4g}, asked "
        f"{asked:.4g} tokens): the server stops early, so its load depends on what it writes"
    )


def _cached(whole: Sequence[Record]) -> str | None:
    cached = sum(each.usage_cached or 0 for each in whole)
    share = _share(
        cached, sum(each.prompt_tokens if each.usage_prompt is None else each.usage_prompt for each in whole)
    )
    if share <= CACHED_MAX:
        return None
    return (
        f"{share:.0%} of the prompt tokens came from the server's prefix cache: their TTFT is not that of new prompts"
    )


def _chunks(whole: Sequence[Record]) -> str | None:
    if is_counted(whole):
        return None
    several = sum(not each.is_counted for each in whole)
    return (
        f"{several} of {len(whole)} replies came in chunks of unknown numbers of tokens: ITL can't be told, "
        "an ITL target was held against the gaps between chunks"
    )


def _cut(within: Sequence[Record]) -> str | None:
    cut = sum(each.outcome is Outcome.CUT for each in within)
    if _share(cut, len(within)) <= CUT_MAX:
        return None
    return (
        f"{cut} of {len(within)} requests were still under way when the run ended; those not late by then don't count"
    )


def _demoted(within: Sequence[Record]) -> str | None:
    """Their latencies look like a broken promise where none was made."""
    demoted = sum(each.service_tier == "flex" and each.asked_tier not in FLEX for each in within)
    if _share(demoted, len(within)) <= DEMOTED_MAX:
        return None
    return (
        f"{demoted} of {len(within)} requests were served as flex, which they had not asked for: late rather than "
        "refused, as those that name no tier may be; with class=NAME the workload asks for the tier of a class"
    )


def _samples(figures: ClassFigures) -> list[str]:
    name = f"{figures.name}: " if figures.name else ""
    said = []
    if 0 < figures.offered < P95_SAMPLES_MIN:
        said.append(f"{name}{figures.offered} requests are too few for a p95: it takes {P95_SAMPLES_MIN} to bound one")
    has_promise = any((figures.ttft_target_s, figures.itl_target_s, figures.e2e_target_s))
    if has_promise and figures.offered and decided(figures.good, figures.offered, TARGET_ATTAINMENT) is None:
        needed = samples_needed(figures.good / figures.offered, TARGET_ATTAINMENT)
        enough = f"about {needed} like these would" if needed is not None else "it is too close to call"
        share = figures.good / figures.offered
        said.append(
            f"{name}{figures.offered} requests, {share:.1%} in SLO, don't decide whether {TARGET_ATTAINMENT:.0%} were "
            f"kept; {enough}"
        )
    return said
