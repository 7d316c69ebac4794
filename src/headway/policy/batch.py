"""From running requests to a step: who takes part with how many tokens, and the plan that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from headway.policy.allowance import Allowance
from headway.policy.plan import Chunk, StepPlan
from headway.policy.policy import Load
from headway.policy.request import Request
from headway.policy.steptime import StepShape


@dataclass(slots=True)  # not frozen: one is made for every step, and freezing takes three times as long
class StepInFlight:
    """A step whose result is awaited. ``entries``: the requests in it, and whether each draws a token. ``plan``: the
    message that was handed out; None for an executor that asked for none.

    ``began_s``: when the step before it ended, or when it was planned if there was nothing to do before.
    """

    plan: StepPlan | None
    step_id: int
    shape: StepShape
    token_limit: int
    began_s: float
    entries: tuple[tuple[Request, bool], ...]


def partition(running: Sequence[Request]) -> Load:
    """Those with one token left to compute (decodes), and those with more (prefills), each in the order given."""
    decoding = [request for request in running if len(request.tokens) - request.computed == 1]
    if len(decoding) == len(running) and not [request for request in running if request.deferrable]:
        return Load(decoding)  # most steps are like that
    load = Load()
    decodes, prefills, deferrable_decodes, deferrable_prefills = (
        load.decodes,
        load.prefills,
        load.deferrable_decodes,
        load.deferrable_prefills,
    )
    for request in running:
        if len(request.tokens) - request.computed == 1:
            (deferrable_decodes if request.deferrable else decodes).append(request)
        else:
            (deferrable_prefills if request.deferrable else prefills).append(request)
    return load


def share_decodes(allowance: Allowance, decodes: list[Request], *, deferrable: bool) -> list[Request]:
    """Plan one token for as many as may take part; where not all may, those that have waited longest for a token."""
    if deferrable or len(decodes) > allowance.limit:
        decodes = sorted(decodes, key=lambda request: (request.last_token_s, request.order))
    count = allowance.decodes([len(request.tokens) for request in decodes], deferrable=deferrable)
    chosen = decodes if count == len(decodes) else decodes[:count]
    for request in chosen:
        request.planned = 1
    return chosen


def build(
    step_id: int, chosen: Sequence[Request], token_limit: int, began_s: float, *, with_plan: bool, all_decode: bool
) -> StepInFlight:
    """The step in which every chosen request computes its planned tokens. ``all_decode``: it is known that all of them
    compute the one token that they have left."""
    if all_decode and not with_plan:
        count, context = len(chosen), sum([len(request.tokens) for request in chosen])
        entries_of_all = tuple(zip(chosen, repeat(True), strict=False))
        return StepInFlight(None, step_id, StepShape(count, count, context, 0.0), token_limit, began_s, entries_of_all)
    chunks: list[Chunk] = []
    entries: list[tuple[Request, bool]] = []
    tokens = decode_context = 0
    prefill_reads = 0.0
    for request in chosen:
        start, planned, known = request.computed, request.planned, request.tokens
        end = start + planned
        draws = end == len(known)
        tokens += planned
        entries.append((request, draws))
        if planned == 1 and draws:
            decode_context += end
            if not with_plan:
                continue
            part: tuple[int, ...] = (known[-1],)
        else:
            prefill_reads += planned * (start + planned / 2)
            if not with_plan:
                continue
            part = tuple(known[start:end])
        draw = request.draw() if draws else None
        chunks.append(Chunk(request.spec.request_id, start, part, request.block_table, draw))
    shape = StepShape(tokens, len(entries), decode_context, prefill_reads)
    plan = StepPlan(step_id, tuple(chunks)) if with_plan else None
    return StepInFlight(plan, step_id, shape, token_limit, began_s, tuple(entries))
