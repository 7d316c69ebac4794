"""From running requests to a step: who takes part with how many tokens, and the plan that says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headway.policy.plan import Chunk, StepPlan
from headway.policy.request import Request


@dataclass(frozen=True, slots=True)
class StepInFlight:
    """A plan handed out whose result is awaited. ``entries``: the requests in it, and whether each draws a token."""

    plan: StepPlan
    token_limit: int
    entries: tuple[tuple[Request, bool], ...]


def partition(running: Iterable[Request]) -> tuple[list[Request], list[Request]]:
    """Those with one token left to compute (decodes), and those with more (prefills), each in the order given."""
    decodes: list[Request] = []
    prefills: list[Request] = []
    for request in running:
        (decodes if len(request.tokens) - request.computed == 1 else prefills).append(request)
    return decodes, prefills


def share_out(limit: int, decodes: list[Request], prefills: list[Request]) -> tuple[list[Request], int]:
    """Plan one token for each decode, then as much of each prefill as there is, while ``limit`` tokens last.

    Returns those that got any, and what is left of the limit. With fewer requests in the same order, none gets less.
    """
    chosen = decodes[:limit]
    for request in chosen:
        request.planned = 1
    left = limit - len(chosen)
    for request in prefills:
        if not left:
            break
        request.planned = min(request.remaining, left)
        left -= request.planned
        chosen.append(request)
    return chosen, left


def build(step_id: int, chosen: Iterable[Request], limit: int) -> StepInFlight:
    """The step in which every chosen request computes its planned tokens."""
    chunks: list[Chunk] = []
    entries: list[tuple[Request, bool]] = []
    for request in chosen:
        start, end = request.computed, request.computed + request.planned
        draws = end == len(request.tokens)
        tokens = tuple(request.tokens[start:end])
        draw = request.draw() if draws else None
        chunks.append(Chunk(request.spec.request_id, start, tokens, request.block_table, draw))
        entries.append((request, draws))
    return StepInFlight(StepPlan(step_id, tuple(chunks)), limit, tuple(entries))
