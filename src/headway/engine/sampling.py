"""From logits to tokens: the rules of ``SamplingParams``, in their order, then one draw a row.

The draw inverts the cumulative distribution, in order of token id, at a uniform number that is a pure function of
``(seed, position)``. Every step works on each row by itself, with an order of arithmetic that does not depend on how
many rows there are: a row gives the same token alone and in any batch, in any process on the same kind of machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from headway.engine import native
from headway.policy.plan import Draw, DrawnToken, FailedDraw
from headway.policy.sampling import SamplingParams

CANDIDATES = 256
"""How many of the most likely tokens are looked at before a row is sorted as a whole."""

MIN_TEMPERATURE = 1e-5
"""Temperatures between 0 and this one act as this one, which keeps the scaled logits finite."""

NOT_NUMBERS = "the model's logits are not finite numbers"
NOTHING_LEFT = "the request's sampling rules leave no token to choose"
FOREIGN_TOKEN = "the request's sampling rules name a token outside the vocabulary"

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def draw(
    logits: Tensor, rows: Sequence[tuple[str, int, Draw]]
) -> tuple[tuple[DrawnToken, ...], tuple[FailedDraw, ...]]:
    """Choose one token for each row of ``logits`` (float, [rows, vocabulary]); ``logits`` is left as it is.

    ``rows[i]`` is (request id, position of the token to draw, its ``Draw``). Results keep the order of the rows.
    A row that can't be drawn from is returned as failed, with the reason; the others are not touched by it.
    Of equally likely tokens the greedy choice is the lowest id.
    """
    if not rows:
        return (), ()
    values = logits.float().contiguous()
    tokens: dict[int, int] = {}
    failed: dict[int, str] = {}
    ruled: list[int] = []
    for row, (best, (_, _, each)) in enumerate(zip(_most_likely(values), rows, strict=True)):
        if best is None:
            failed[row] = NOT_NUMBERS
        elif _is_plain_greedy(each):
            tokens[row] = best
        else:
            ruled.append(row)
    if ruled:
        chosen = _draw_ruled(values[ruled], [rows[row] for row in ruled])
        for row, choice in zip(ruled, chosen, strict=True):
            if isinstance(choice, str):
                failed[row] = choice
            else:
                tokens[row] = choice
    reported = _report(values, rows, tokens)
    drawn = tuple(reported.get(row) or DrawnToken(rows[row][0], tokens[row]) for row in sorted(tokens))
    return drawn, tuple(FailedDraw(rows[row][0], failed[row]) for row in sorted(failed))


def distribution(values: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """The probabilities to draw from (fp32, [rows, vocabulary], not normalised) by rules 4 to 7.

    ``values`` are logits (fp32) after rules 1 to 3, each row with a finite maximum; every temperature is above 0.
    Each filter is a cut-off probability, so tokens exactly as likely as the last one kept are kept too.
    """
    temperature = [max(each.temperature, MIN_TEMPERATURE) for each in params]
    probs = torch.softmax(values / _column(temperature, values), dim=-1)
    if all(each.top_k is None and each.top_p >= 1.0 and each.min_p <= 0.0 for each in params):
        return probs
    cutoff = torch.zeros(len(params), dtype=probs.dtype, device=probs.device)
    filtered = [row for row, each in enumerate(params) if each.top_k is not None or each.top_p < 1.0]
    if filtered:
        cutoff[filtered] = _cutoffs(_take(probs, filtered), [params[row] for row in filtered])
    floor = probs.amax(dim=-1) * _column([each.min_p for each in params], probs).squeeze(-1)
    return probs.masked_fill(probs < torch.maximum(cutoff, floor).unsqueeze(-1), 0.0)


def uniform(seed: int, position: int) -> float:
    """A multiple of 2**-32 in [0, 1): number ``position`` of a splitmix64 stream whose start is mixed from ``seed``.

    Method: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    return (_mix(_mix(seed & _MASK) + (position + 1) * _GOLDEN & _MASK) >> 32) * 2.0**-32


def _mix(value: int) -> int:
    """The finaliser of splitmix64: a bijection of 64-bit integers in which every input bit moves every output bit."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31


def _draw_ruled(values: Tensor, rows: Sequence[tuple[str, int, Draw]]) -> list[int | str]:
    """A token, or the reason why there is none, for each row; ``values`` are overwritten."""
    chosen: list[int | str] = [FOREIGN_TOKEN] * len(rows)
    usable = [row for row, (_, _, each) in enumerate(rows) if _apply_rules(values[row], each)]
    if not usable:
        return chosen
    values = _take(values, usable)
    tokens = _most_likely(values)
    random = [i for i, row in enumerate(usable) if tokens[i] is not None and rows[row][2].params.temperature > 0.0]
    if random:
        drawn = [rows[usable[index]] for index in random]
        numbers = [uniform(each.params.seed, position) for _, position, each in drawn]
        for index, token in zip(random, _sample(_take(values, random), drawn, numbers), strict=True):
            tokens[index] = token
    for row, token in zip(usable, tokens, strict=True):
        chosen[row] = NOTHING_LEFT if token is None else token
    return chosen


def _sample(values: Tensor, rows: Sequence[tuple[str, int, Draw]], numbers: Sequence[float]) -> list[int | None]:
    """One token for each row, drawn at its number by rules 4 to 7; None where none can be."""
    params = [each.params for _, _, each in rows]
    if _is_for_native(values):
        vocabulary = values.shape[-1]
        rules = [
            native.Rule(max(p.temperature, MIN_TEMPERATURE), p.top_k or vocabulary, p.top_p, p.min_p, number)
            for p, number in zip(params, numbers, strict=True)
        ]
        return native.sample(values.numpy(), rules)
    tokens: list[int | None] = _invert(distribution(values, params), numbers).tolist()
    return tokens


def _most_likely(values: Tensor) -> list[int | None]:
    """The first of each row's most likely tokens.

    None where a logit is NaN or infinite, or where all are minus infinity: the maximum shows all three.
    """
    if _is_for_native(values):
        return native.largest(values.numpy())
    best, tokens = values.max(dim=-1)
    finite = torch.isfinite(best).tolist()
    return [token if is_finite else None for token, is_finite in zip(tokens.tolist(), finite, strict=True)]


def _is_for_native(values: Tensor) -> bool:
    """Whether compiled kernels can take these rows: they need no sort."""
    return values.device.type == "cpu" and native.why_not() is None


def _invert(probs: Tensor, numbers: Sequence[float]) -> Tensor:
    """The first token of each row at which the cumulative probability exceeds the row's number times its total."""
    cumulative = probs.cumsum(dim=-1, dtype=torch.float64)
    target = cumulative[:, -1:] * torch.tensor(numbers, dtype=torch.float64, device=probs.device).unsqueeze(-1)
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def _apply_rules(row: Tensor, each: Draw) -> bool:
    """Apply rules 1 to 3 to one row of logits, in place. False if they name a token that the row doesn't have."""
    params = each.params
    history = np.array(each.history, dtype=np.int64)
    bias = np.array([token for token, _ in params.logit_bias], dtype=np.int64)
    held_back = params.stop_token_ids if each.output_index < params.min_tokens else ()
    stops = np.array(held_back, dtype=np.int64)
    if any(ids.size and (ids.min() < 0 or ids.max() >= row.shape[0]) for ids in (history, bias, stops)):
        return False
    if params.repetition_penalty != 1.0 and history.size:
        seen = _index(history, row)
        value = row[seen]  # a token that comes twice is written twice with one value
        row[seen] = torch.where(value > 0, value / params.repetition_penalty, value * params.repetition_penalty)
    if params.presence_penalty != 0.0 or params.frequency_penalty != 0.0:
        ids, counts = np.unique(history[each.prompt_tokens :], return_counts=True)
        penalty = counts * params.frequency_penalty + params.presence_penalty
        row[_index(ids, row)] -= torch.from_numpy(penalty).to(row)
    for token, added in params.logit_bias:
        row[token] += added
    if stops.size:
        row[_index(stops, row)] = -math.inf
    return True


def _cutoffs(probs: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """The least probability that top_k and top_p keep in each row.

    Most distributions are decided by their first ``CANDIDATES`` tokens; only the other rows are sorted whole.
    """
    vocabulary = probs.shape[-1]
    width = min(CANDIDATES, vocabulary)
    cutoff, decided = _cutoffs_within(probs.topk(width, dim=-1).values, params, vocabulary)
    wide = [row for row, is_decided in enumerate(decided.tolist()) if not is_decided]
    if wide:
        ordered = _take(probs, wide).sort(dim=-1, descending=True).values
        cutoff[wide] = _cutoffs_within(ordered, [params[row] for row in wide], vocabulary)[0]
    return cutoff


def _cutoffs_within(ordered: Tensor, params: Sequence[SamplingParams], vocabulary: int) -> tuple[Tensor, Tensor]:
    """Cut-offs from each row's most likely tokens, in falling order, and whether those were enough to tell."""
    width = ordered.shape[-1]
    top_k = [min(each.top_k or vocabulary, vocabulary) for each in params]
    kth = ordered.gather(-1, torch.tensor([[min(k, width) - 1] for k in top_k], device=ordered.device))
    allowed = ordered >= kth
    cumulative = torch.where(allowed, ordered, 0.0).cumsum(dim=-1, dtype=torch.float64)
    # Without top_k the mass is that of the whole row: one, by softmax, however few of its tokens are here.
    limited = torch.tensor([[k < vocabulary] for k in top_k], device=ordered.device)
    mass = torch.where(limited, cumulative[:, -1:], 1.0)
    top_p = torch.tensor(
        [[each.top_p if each.top_p < 1.0 else math.inf] for each in params], dtype=torch.float64, device=ordered.device
    )
    kept = allowed.clone()
    kept[:, 1:] &= cumulative[:, :-1] < top_p * mass
    count = kept.sum(dim=-1, keepdim=True)
    # A tie with the last token shown may go on beyond it, and so may the allowed mass: then a whole sort decides.
    short = torch.tensor([[k > width] for k in top_k], device=ordered.device) & limited
    extent = torch.where(limited, allowed.sum(dim=-1, keepdim=True), count)
    decided = ~short & (extent < width) if width < vocabulary else torch.ones_like(short)
    return ordered.gather(-1, count - 1).squeeze(-1), decided.squeeze(-1)


def _report(values: Tensor, rows: Sequence[tuple[str, int, Draw]], tokens: dict[int, int]) -> dict[int, DrawnToken]:
    """The drawn tokens with log-probabilities of the model's own distribution, for the rows that ask for them."""
    asked = {row: n for row in tokens if (n := rows[row][2].params.logprobs) is not None}
    if not asked:
        return {}
    order = list(asked)
    logprobs = torch.log_softmax(_take(values, order), dim=-1)
    chosen = logprobs.gather(-1, torch.tensor([[tokens[row]] for row in order], device=values.device))
    best, ids = logprobs.topk(min(max(asked.values()), values.shape[-1]), dim=-1)
    reported = {}
    columns = (chosen[:, 0].tolist(), best.tolist(), ids.tolist())
    for row, logprob, top_logprobs, top_ids in zip(order, *columns, strict=True):
        pairs = list(zip(top_ids, top_logprobs, strict=True))[: asked[row]]
        top = tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
        reported[row] = DrawnToken(rows[row][0], tokens[row], logprob, top)
    return reported


def _is_plain_greedy(each: Draw) -> bool:
    """Whether the token is simply the most likely one: no rule before the temperature changes a logit."""
    params = each.params
    held_back = each.output_index < params.min_tokens and params.stop_token_ids
    return params.temperature <= 0.0 and not (params.needs_history or params.logit_bias or held_back)


def _take(values: Tensor, rows: list[int]) -> Tensor:
    """The given rows (in rising order), without a copy where they are all of them."""
    return values if len(rows) == values.shape[0] else values[rows]


def _index(ids: np.ndarray[tuple[int, ...], np.dtype[np.int64]], row: Tensor) -> Tensor:
    return torch.from_numpy(ids).to(row.device)


def _column(numbers: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).unsqueeze(-1)
