"""Traces as workloads: their times and lengths, with text made for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from statistics import fmean

from headway.bench.call import Call
from headway.bench.tokens import Tokens
from headway.bench.workload_interface import SCALE_MIN, TEMPLATE_TOKENS, WorkloadError, most_tokens
from headway.traces.packaged import MOONCAKE_BLOCK_TOKENS, Row, Trace

FIT_SHARE_MIN = 0.5
"""Where fewer of a trace's requests fit the server's context, it is not that trace any more."""
FIT_SHARE_MEANT = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A trace over and over, always from its first row; times go on where it starts again.

    Rows with equal blocks share the text of those blocks, within one pass of one seed. ``block_tokens``: of each.
    ``left_out``: rows that had no tokens, or more than the server's context.
    """

    name: str
    tokens: Tokens
    rows: tuple[Row, ...]
    block_tokens: int = MOONCAKE_BLOCK_TOKENS
    bucket_s: float = 0.0
    left_out: int = 0
    service_class: str = ""
    tier: str | None = None
    is_exact: bool = True

    @property
    def period_s(self) -> float:
        """Of one pass, with one mean gap before the next."""
        rows = self.rows
        return (rows[-1].arrived_s - rows[0].arrived_s) * len(rows) / max(1, len(rows) - 1)

    @property
    def rate(self) -> float | None:
        return len(self.rows) / self.period_s if self.period_s else None

    @property
    def shares_prefixes(self) -> bool:
        return any(row.blocks for row in self.rows)

    def describe(self) -> dict[str, object]:
        found: dict[str, object] = {
            "name": self.name,
            "tokens": self.tokens.source,
            "requests": len(self.rows),
            "requests_left_out": self.left_out,
            "requests_per_second": None if self.rate is None else round(self.rate, 3),
            "input_tokens_mean": round(fmean(row.prompt_tokens for row in self.rows), 1),
            "output_tokens_mean": round(fmean(row.output_tokens for row in self.rows), 1),
            "exact_output": self.is_exact,
        }
        if any(row.blocks for row in self.rows):
            found["shared_block_tokens"] = self.block_tokens
        if self.bucket_s:
            found["times_spread_over_s"] = self.bucket_s
        if self.service_class:
            found["class"] = self.service_class
        if self.tier is not None:
            found["tier"] = self.tier
        return found

    def calls(self, seed: int, *, first: int = 0, step: int = 1) -> Iterator[Call]:
        for index in count(first, step):
            lap, at = divmod(index, len(self.rows))
            row = self.rows[at]
            yield Call(
                prompt=self._text(row, seed, index, lap),
                prompt_tokens=row.prompt_tokens,
                max_tokens=row.output_tokens,
                exact_output=self.is_exact,
                at_s=None if self.rate is None else row.arrived_s - self.rows[0].arrived_s + lap * self.period_s,
                service_class=self.service_class,
                tier=self.tier,
            )

    def _text(self, row: Row, seed: int, index: int, lap: int) -> str:
        parts, left = [], row.prompt_tokens
        for label in row.blocks:
            size = min(self.block_tokens, left)
            if size:
                parts.append(self.tokens.text(size, Random(f"{self.name} {seed} lap {lap} block {label}")))
            left -= size
        if left:
            parts.append(self.tokens.text(left, Random(f"{self.name} {seed} {index}")))
        return " ".join(parts)


def replay(
    name: str,
    tokens: Tokens,
    trace: Trace,
    *,
    scale: float,
    context: int | None,
    service_class: str,
    tier: str | None,
    is_exact: bool,
) -> Replay:
    """With all lengths times ``scale``, rounded times spread, and without what can't be sent. Raises
    ``WorkloadError`` if too little is left."""
    spread = Random(0)  # the same for every seed: two levels differ in their text alone
    rows = [_scaled(row, scale, row.arrived_s + spread.random() * trace.bucket_s) for row in trace.rows]
    most = most_tokens(context)
    fit = [row for row in rows if _fits(row, most)]
    _check_left(name, rows, len(fit), scale, most)
    fit.sort(key=lambda row: row.arrived_s)
    return Replay(
        name=name,
        tokens=tokens,
        rows=tuple(fit),
        block_tokens=max(1, round(MOONCAKE_BLOCK_TOKENS * scale)),
        bucket_s=trace.bucket_s,
        left_out=len(rows) - len(fit),
        service_class=service_class,
        tier=tier,
        is_exact=is_exact,
    )


def _check_left(name: str, rows: list[Row], fit: int, scale: float, most: int) -> None:
    """Raises ``WorkloadError`` if too few of the rows can be sent: they would be another workload."""
    if fit >= max(1, FIT_SHARE_MIN * len(rows)):
        return
    whole = sorted(row.prompt_tokens + row.output_tokens for row in rows if row.prompt_tokens and row.output_tokens)
    if len(whole) < max(1, FIT_SHARE_MIN * len(rows)):
        raise WorkloadError(f"{name}: only {len(whole):,} of its {len(rows):,} requests have a prompt and an answer")
    meant = whole[math.ceil(FIT_SHARE_MEANT * len(whole)) - 1]
    fitting = math.floor(1000 * scale * (most - TEMPLATE_TOKENS) / meant) / 1000
    help = f"scale={fitting:g} lets {FIT_SHARE_MEANT:.0%} fit" if fitting >= SCALE_MIN else "that is too small for it"
    raise WorkloadError(f"{name}: only {fit:,} of its {len(rows):,} requests fit into {most:,} tokens: {help}")


def _scaled(row: Row, scale: float, arrived_s: float) -> Row:
    prompt, output = (
        max(1, round(tokens * scale)) if tokens else 0 for tokens in (row.prompt_tokens, row.output_tokens)
    )
    return Row(arrived_s, prompt, output, row.blocks)


def _fits(row: Row, most: int) -> bool:
    total = row.prompt_tokens + row.output_tokens + TEMPLATE_TOKENS
    return row.prompt_tokens > 0 and row.output_tokens > 0 and total <= most
