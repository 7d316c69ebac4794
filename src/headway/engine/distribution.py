"""Draws in torch, by sorting: for rows that no compiled kernel can take, and what those are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from headway.engine.native import Rule

CANDIDATES = 256
"""How many of the most likely tokens are looked at before a row is sorted as a whole."""


def sample(logits: Tensor, rules: Sequence[Rule]) -> list[int]:
    """The first token of each row at which the cumulative probability exceeds the rule's number times its total.

    ``logits``: fp32, [rows, vocabulary], each row with a finite maximum.
    """
    cumulative = distribution(logits, rules).cumsum(dim=-1, dtype=torch.float64)
    target = cumulative[:, -1:] * _column([rule.number for rule in rules], cumulative)
    tokens: list[int] = torch.searchsorted(cumulative, target, right=True).squeeze(-1).tolist()
    return tokens


def distribution(logits: Tensor, rules: Sequence[Rule]) -> Tensor:
    """The probabilities to draw from (fp32, [rows, vocabulary], not normalised).

    Each filter is a cut-off probability, so tokens exactly as likely as the last one kept are kept too.
    """
    probs = torch.softmax(logits / _column([rule.temperature for rule in rules], logits), dim=-1)
    filtered = [row for row, rule in enumerate(rules) if rule.top_k < probs.shape[-1] or rule.top_p < 1.0]
    if not filtered and all(rule.min_p <= 0.0 for rule in rules):
        return probs
    cutoff = torch.zeros(len(rules), dtype=probs.dtype, device=probs.device)
    if filtered:
        cutoff[filtered] = _cutoffs(_take(probs, filtered), [rules[row] for row in filtered])
    floor = probs.amax(dim=-1) * _column([rule.min_p for rule in rules], probs).squeeze(-1)
    return probs.masked_fill(probs < torch.maximum(cutoff, floor).unsqueeze(-1), 0.0)


def _cutoffs(probs: Tensor, rules: Sequence[Rule]) -> Tensor:
    """The least probability that top_k and top_p keep in each row.

    Most distributions are decided by their first ``CANDIDATES`` tokens; only the other rows are sorted whole.
    """
    vocabulary = probs.shape[-1]
    width = min(CANDIDATES, vocabulary)
    cutoff, decided = _cutoffs_within(probs.topk(width, dim=-1).values, rules, vocabulary)
    wide = [row for row, is_decided in enumerate(decided.tolist()) if not is_decided]
    if wide:
        ordered = _take(probs, wide).sort(dim=-1, descending=True).values
        cutoff[wide] = _cutoffs_within(ordered, [rules[row] for row in wide], vocabulary)[0]
    return cutoff


def _cutoffs_within(ordered: Tensor, rules: Sequence[Rule], vocabulary: int) -> tuple[Tensor, Tensor]:
    """Cut-offs from each row's most likely tokens, in falling order, and whether those were enough to tell."""
    width = ordered.shape[-1]
    top_k = torch.tensor([[min(rule.top_k, vocabulary)] for rule in rules], device=ordered.device)
    allowed = ordered >= ordered.gather(-1, top_k.clamp(max=width) - 1)
    cumulative = torch.where(allowed, ordered, 0.0).cumsum(dim=-1, dtype=torch.float64)
    # Without top_k the mass is that of the whole row: one, by softmax, however few of its tokens are here.
    limited = top_k < vocabulary
    mass = torch.where(limited, cumulative[:, -1:], 1.0)
    top_p = _column([rule.top_p if rule.top_p < 1.0 else math.inf for rule in rules], cumulative)
    kept = allowed.clone()
    kept[:, 1:] &= cumulative[:, :-1] < top_p * mass
    count = kept.sum(dim=-1, keepdim=True)
    # A tie with the last token shown may go on beyond it, and so may the allowed mass: then a whole sort decides.
    short = (top_k > width) & limited
    extent = torch.where(limited, allowed.sum(dim=-1, keepdim=True), count)
    decided = ~short & (extent < width) if width < vocabulary else torch.ones_like(short)
    return ordered.gather(-1, count - 1).squeeze(-1), decided.squeeze(-1)


def _take(values: Tensor, rows: list[int]) -> Tensor:
    """The given rows (in rising order), without a copy where they are all of them."""
    return values if len(rows) == values.shape[0] else values[rows]


def _column(numbers: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).unsqueeze(-1)
