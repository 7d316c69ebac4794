"""From logits to tokens: the rules of ``SamplingParams``, in their order, then one draw a row.

The draw inverts the cumulative distribution, in order of token id, at a uniform number that is a pure function of
``(seed, position)``. Every step works on each row by itself, with an order of arithmetic that does not depend on how
many rows there are: a row gives the same token alone and in any batch, in any process on the same kind of machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headway.engine import native
from headway.engine.native import Rule
from headway.policy.plan import Draw, DrawnToken, FailedDraw

if TYPE_CHECKING:
    from headway.engine._native import Pool

MIN_TEMPERATURE = 1e-5
"""Temperatures between 0 and this one act as this one, which keeps the scaled logits finite."""

NOT_NUMBERS = "the model's logits are not finite numbers"
NOTHING_LEFT = "the request's sampling rules leave no token to choose"
FOREIGN_TOKEN = "the request's sampling rules name a token outside the vocabulary"

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15

Logits = NDArray[np.float32]
Drawing = tuple[str, int, Draw]
"""Request id, position of the token to draw, how to draw it."""


def draw(
    logits: Logits, rows: Sequence[Drawing], pool: Pool | None = None
) -> tuple[tuple[DrawnToken, ...], tuple[FailedDraw, ...]]:
    """Choose one token for each row of ``logits`` ([rows, vocabulary]); ``logits`` is left as it is.

    Results keep the order of the rows. A row that can't be drawn from is returned as failed, with the reason; the
    others are not touched by it. Of equally likely tokens the greedy choice is the lowest id. Compiled kernels share
    the rows out among the threads of ``pool``.
    """
    if not rows:
        return (), ()
    outcomes: list[int | str] = [NOT_NUMBERS if token is None else token for token in _most_likely(logits, pool)]
    random: list[int] = []
    for row, (_, _, each) in enumerate(rows):
        if outcomes[row] is NOT_NUMBERS:
            continue
        if _changes_logits(each):
            outcomes[row] = _draw_changed(logits[row : row + 1].copy(), rows[row])
        elif each.params.temperature > 0.0:
            random.append(row)
    if random:
        values = logits if len(random) == len(logits) else logits[random]
        for row, token in zip(random, _sample(values, [rows[row] for row in random], pool), strict=True):
            outcomes[row] = token
    drawn, failed = [], []
    for row, outcome in enumerate(outcomes):
        if isinstance(outcome, str):
            failed.append(FailedDraw(rows[row][0], outcome))
        else:
            drawn.append(_drawn(logits[row], rows[row], outcome))
    return tuple(drawn), tuple(failed)


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


def _draw_changed(values: Logits, drawing: Drawing) -> int | str:
    """A token by all rules, or the reason why there is none. ``values``: one row, which is overwritten."""
    each = drawing[2]
    if not _apply_rules(values[0], each):
        return FOREIGN_TOKEN
    (best,) = _most_likely(values)
    if best is None:
        return NOTHING_LEFT
    return best if each.params.temperature <= 0.0 else _sample(values, [drawing])[0]


def _sample(values: Logits, rows: Sequence[Drawing], pool: Pool | None = None) -> list[int | str]:
    """A token for each row by rules 4 to 7, or the reason why there is none."""
    vocabulary = values.shape[1]
    rules = [
        Rule(
            temperature=max(each.params.temperature, MIN_TEMPERATURE),
            top_k=min(each.params.top_k or vocabulary, vocabulary),
            top_p=each.params.top_p,
            min_p=each.params.min_p,
            number=uniform(each.params.seed, position),
        )
        for _, position, each in rows
    ]
    if native.why_not() is None:
        return [NOTHING_LEFT if token is None else token for token in native.sample(values, rules, pool=pool)]
    import torch  # here, since it takes long to import, and most servers do without

    from headway.engine import distribution

    return list(distribution.sample(torch.from_numpy(values), rules))


def _most_likely(values: Logits, pool: Pool | None = None) -> list[int | None]:
    """The first of each row's most likely tokens.

    None where a logit is NaN or infinite, or where all are minus infinity: the maximum shows all three.
    """
    if native.why_not() is None:
        return native.largest(values, pool=pool)
    tokens = values.argmax(axis=-1)  # the first NaN, if there is one
    finite = np.isfinite(values[np.arange(len(values)), tokens])
    return [int(token) if is_finite else None for token, is_finite in zip(tokens, finite, strict=True)]


def _apply_rules(row: Logits, each: Draw) -> bool:
    """Apply rules 1 to 3 to one row of logits, in place. False if they name a token that the row doesn't have."""
    params = each.params
    history = np.array(each.history, dtype=np.int64)
    bias = np.array([token for token, _ in params.logit_bias], dtype=np.int64)
    held_back = params.stop_token_ids if each.output_index < params.min_tokens else ()
    stops = np.array(held_back, dtype=np.int64)
    if any(ids.size and (ids.min() < 0 or ids.max() >= row.shape[0]) for ids in (history, bias, stops)):
        return False
    if params.repetition_penalty != 1.0 and history.size:
        value = row[history]  # a token that comes twice is written twice with one value
        row[history] = np.where(value > 0, value / params.repetition_penalty, value * params.repetition_penalty)
    if params.presence_penalty != 0.0 or params.frequency_penalty != 0.0:
        ids, counts = np.unique(history[each.prompt_tokens :], return_counts=True)
        row[ids] -= counts * params.frequency_penalty + params.presence_penalty
    for token, added in params.logit_bias:
        row[token] += added
    row[stops] = -math.inf
    return True


def _drawn(row: Logits, drawing: Drawing, token: int) -> DrawnToken:
    """The token, with log-probabilities of the model's own distribution if they are asked for."""
    request_id, _, each = drawing
    count = each.params.logprobs
    if count is None:
        return DrawnToken(request_id, token)
    shifted = row - row.max()
    logprobs = shifted - np.float32(math.log(np.exp(shifted).sum(dtype=np.float64)))
    top = tuple((index, float(logprobs[index])) for index in _largest(logprobs, count))
    return DrawnToken(request_id, token, float(logprobs[token]), top)


def _largest(values: Logits, count: int) -> list[int]:
    """Where the ``count`` largest numbers are, in falling order; of equal ones the lowest index first."""
    count = min(count, len(values))
    if count == 0:
        return []
    last = np.partition(values, -count)[-count]
    indices = np.flatnonzero(values >= last)
    order: list[int] = indices[np.argsort(-values[indices], kind="stable")][:count].tolist()
    return order


def _changes_logits(each: Draw) -> bool:
    """Whether there is a rule before the temperature."""
    params = each.params
    held_back = each.output_index < params.min_tokens and params.stop_token_ids
    return bool(params.needs_history or params.logit_bias or held_back)
