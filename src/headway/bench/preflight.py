"""Before a run: one request, to see what the server takes and that it serves at all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headway.bench.body import Dialect
from headway.bench.call import Call
from headway.bench.record import Outcome, Record
from headway.bench.sender import Sender
from headway.bench.target import Target, TargetError
from headway.bench.workload_interface import TEMPLATE_TOKENS

REJECTED = (400, 404, 405, 415, 422)
"""Statuses by which servers say that they don't take a request as it is."""
HINTS = {
    401: "set OPENAI_API_KEY or give --key-file",
    403: "set OPENAI_API_KEY or give --key-file",
    404: "the server may speak the other API: --api chat or --api completions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """``template_tokens``: what the server counts in a prompt beyond the workload's tokens, its chat template mostly.
    ``given_up``: what can't be had of this server, a line each."""

    dialect: Dialect
    template_tokens: int = 0
    given_up: tuple[str, ...] = ()


async def settle(target: Target, call: Call, *, is_streaming: bool, timeout_s: float) -> Settled:
    """The richest dialect in which the server takes ``call``.

    Raises ``TargetError`` if there is none, or the reply is not one of the API.
    """
    rich = Dialect(is_streaming=is_streaming)
    attempts = (
        rich,
        replace(rich, has_continuous_usage=False),
        replace(rich, has_continuous_usage=False, has_exact_output=False),
        replace(rich, has_continuous_usage=False, has_exact_output=False, has_usage=False),
    )
    first: Record | None = None
    for dialect in attempts:
        async with Sender(target, dialect, timeout_s=timeout_s) as sender:
            record = await sender.send(replace(call, turns=()))
        if record.is_ok or record.outcome is Outcome.REFUSED:
            return Settled(dialect=dialect, template_tokens=_template_tokens(call, record), given_up=_given_up(dialect))
        first = first or record
        if record.status not in REJECTED:
            break
    assert first is not None
    hint = HINTS.get(first.status or 0)
    raise TargetError(f"{target.url}: {first.error or first.outcome.value}" + (f" ({hint})" if hint else ""))


def _template_tokens(call: Call, record: Record) -> int:
    if record.usage_prompt is None or not call.prompt_tokens:
        return 0
    more = record.usage_prompt - call.prompt_tokens
    return more if 0 <= more <= TEMPLATE_TOKENS else 0


def _given_up(dialect: Dialect) -> tuple[str, ...]:
    lost = []
    if not dialect.has_exact_output:
        lost.append("the server does not take ignore_eos and min_tokens: answers are as long as the model likes")
    if dialect.is_streaming and not dialect.has_usage:
        lost.append("the server does not tell usage: tokens are counted by chunks")
    return tuple(lost)
