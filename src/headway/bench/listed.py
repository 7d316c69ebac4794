"""Workloads that are read: a list of calls with their texts, over and over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from random import Random
from statistics import fmean

from headway.bench.call import Call
from headway.bench.tokens import Tokens
from headway.bench.workload_interface import TEMPLATE_TOKENS, WorkloadError

FRESH_TOKENS = 4
FRESH_TOKENS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """``items`` in their order, or, if ``is_shuffled``, in another for each pass.

    Each text begins with ``fresh`` tokens that are the same within one pass of one seed and nowhere else: what the
    texts share they go on sharing, yet no pass finds the last one in a prefix cache. Prompts that are token ids stay
    as they are. ``notes``: further lines for the report.
    """

    name: str
    tokens: Tokens
    items: tuple[Call, ...]
    fresh: int = FRESH_TOKENS
    is_shuffled: bool = False
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def period_s(self) -> float:
        """Of one pass, with one mean gap before the next; 0 without times."""
        first_s, last_s = self.items[0].at_s, self.items[-1].at_s
        if first_s is None or last_s is None:
            return 0.0
        return (last_s - first_s) * len(self.items) / max(1, len(self.items) - 1)

    @property
    def rate(self) -> float | None:
        return len(self.items) / self.period_s if self.period_s else None

    @property
    def shares_prefixes(self) -> bool:
        return True

    def describe(self) -> dict[str, object]:
        found: dict[str, object] = {
            "name": self.name,
            "tokens": self.tokens.source,
            "requests": len(self.items),
            "requests_per_second": None if self.rate is None else round(self.rate, 3),
            "input_tokens_mean": round(fmean(item.prompt_tokens for item in self.items) + self.fresh, 1),
            "output_tokens_mean": round(fmean(item.max_tokens for item in self.items), 1),
            "exact_output": all(item.exact_output for item in self.items),
            "fresh_tokens": self.fresh,
        }
        classes = sorted({item.service_class for item in self.items} - {""})
        return found | ({"classes": classes} if classes else {}) | dict(self.notes)

    def calls(self, seed: int, *, first: int = 0, step: int = 1) -> Iterator[Call]:
        lap_of = lru_cache(2)(lambda lap: (self._opening(seed, lap), self._order(seed, lap)))
        start_s = self.items[0].at_s or 0.0
        for index in count(first, step):
            lap, at = divmod(index, len(self.items))
            opening, order = lap_of(lap)
            item = self.items[order[at]]
            at_s = None if item.at_s is None or not self.period_s else item.at_s - start_s + lap * self.period_s
            yield replace(_freshened(item, opening, self.fresh), at_s=at_s)

    def _opening(self, seed: int, lap: int) -> str:
        return self.tokens.text(self.fresh, Random(f"{self.name} {seed} lap {lap}"))

    def _order(self, seed: int, lap: int) -> list[int]:
        order = list(range(len(self.items)))
        if self.is_shuffled:
            Random(f"{self.name} {seed} lap {lap} order").shuffle(order)
        return order


def _freshened(call: Call, opening: str, tokens: int) -> Call:
    if not opening:
        return call
    if call.messages:
        first, *others = call.messages
        content = first.get("content")
        if isinstance(content, list):
            content = [{"type": "text", "text": opening}, *content]
        else:
            content = f"{opening} {content or ''}"
        messages = ({**first, "content": content}, *others)
        return replace(call, messages=messages, prompt_tokens=call.prompt_tokens + tokens)
    if isinstance(call.prompt, str):
        return replace(call, prompt=f"{opening} {call.prompt}", prompt_tokens=call.prompt_tokens + tokens)
    return call


def fits(call: Call, context: int | None, fresh: int) -> bool:
    """Whether the server takes it, to the last turn."""
    later = sum(turn.tokens + turn.max_tokens for turn in call.turns)
    return context is None or call.prompt_tokens + call.max_tokens + later + fresh + TEMPLATE_TOKENS <= context


def check_any(name: str, calls: list[Call], left_out: int, context: int | None, help: str) -> None:
    """Raises ``WorkloadError`` if there is no call."""
    if not calls and left_out:
        size = "" if context is None else f" within the server's context of {context:,} tokens"
        raise WorkloadError(f"{name}: none of its {left_out} requests can be sent{size}; {help}")
    if not calls:
        raise WorkloadError(f"{name} has no requests; {help}")
