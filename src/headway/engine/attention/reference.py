"""Paged attention in torch: single tokens in groups of similar length, longer chunks one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from headway.engine.attention.interface import Span
from headway.engine.kv_cache import KvCache, LayerCache

GROUP_BYTES_MAX = 2 << 20
"""Keys gathered at a time for a group of single tokens: few enough to stay in the processor's cache."""

SUM = 0
"""The mode of ``torch.embedding_bag`` that adds up."""

FILL_MIN = 0.75
"""A sequence shorter than this share of its group's longest starts a group of its own."""


class ReferenceAttention:
    """``heads``: query heads of this rank. ``windows[layer]`` as in ``ModelConfig``."""

    def __init__(self, cache: KvCache, heads: int, windows: Sequence[int | None]) -> None:
        self._cache = cache
        self._heads = heads
        self._windows = tuple(windows)

    def prepare(self, spans: Sequence[Span]) -> ReferenceStep:
        return ReferenceStep(self._cache, self._heads, self._windows, spans)


@dataclass(frozen=True, slots=True)
class _Group:
    """Sequences with one new token each, padded to one length: members ``first .. last - 1`` of the single tokens.

    ``blocks`` are rows of the cache seen as [blocks * kv_heads, block_size * head_dim]. ``bias`` (fp32, [sequences *
    kv_heads, 1, positions]) is 0 where a sequence may look and minus infinity elsewhere. ``slots`` (int32) are rows of
    the cache seen as [slots, head_dim]: every position for each query head, which begins at ``offsets`` (one more of
    them than heads).
    """

    first: int
    last: int
    blocks: Tensor
    bias: Tensor
    slots: Tensor
    offsets: Tensor


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A sequence with several new tokens, the batch's rows ``first .. last - 1``.

    ``blocks`` as in ``_Group``; None when no earlier token is in the cache. ``bias`` ([tokens, positions]) as well;
    None when each token sees exactly itself and all tokens before.
    """

    first: int
    last: int
    blocks: Tensor | None
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class _Layout:
    """``order``: the rows of single tokens, group by group; None when the batch is just that."""

    order: Tensor | None
    groups: tuple[_Group, ...]
    chunks: tuple[_Chunk, ...]


class ReferenceStep:
    """One step. The work is laid out once for each window that the layers have."""

    def __init__(self, cache: KvCache, heads: int, windows: Sequence[int | None], spans: Sequence[Span]) -> None:
        self._cache = cache
        self._windows = windows
        self._slots = _new_slots(cache, spans)
        self._layouts = {window: _layout(cache, heads, window, spans) for window in set(windows)}

    def __call__(self, layer: int, query: Tensor, key_value: Tensor) -> Tensor:
        cache, layout = self._cache[layer], self._layouts[self._windows[layer]]
        cache.slots.index_copy_(0, self._slots, key_value.reshape(-1, key_value.shape[-1]))
        singles = query if layout.order is None else query[layout.order]
        attended = [_attend_group(cache, group, singles[group.first : group.last]) for group in layout.groups]
        if layout.order is None:
            return (attended[0] if len(attended) == 1 else torch.cat(attended)).view(query.shape[0], -1)
        output = torch.empty_like(query)
        if attended:
            output[layout.order] = torch.cat(attended).view(singles.shape)
        for chunk in layout.chunks:
            rows = slice(chunk.first, chunk.last)
            output[rows] = _attend_chunk(cache, chunk, query[rows], key_value[rows])
        return output.view(query.shape[0], -1)


def _attend_group(cache: LayerCache, group: _Group, query: Tensor) -> Tensor:
    """[sequences * heads, head_dim]. Query heads that share a key head are the rows of one small matrix product.

    Values are summed where they lie, as an embedding bag: gathering them first would take twice as long.
    """
    size = query.shape[-1]
    products = group.bias.shape[0]
    keys = cache.key_blocks.index_select(0, group.blocks).view(products, -1, size).transpose(1, 2)
    folded = query.reshape(products, -1, size)
    if query.dtype == torch.float32:
        scores = torch.baddbmm(group.bias, folded, keys, alpha=size**-0.5)
    else:
        scores = torch.bmm(folded, keys).float().mul_(size**-0.5).add_(group.bias)
    weights = torch.softmax(scores, dim=-1).to(query.dtype).view(-1)
    # Called below ``functional.embedding_bag``, whose checks take longer than the sum at one sequence.
    return torch.embedding_bag(cache.value_slots, group.slots, group.offsets, False, SUM, False, weights, True)[0]


def _attend_chunk(cache: LayerCache, chunk: _Chunk, query: Tensor, key_value: Tensor) -> Tensor:
    if chunk.blocks is None:
        keys, values = key_value.transpose(0, 1).chunk(2)
    else:
        shape = (key_value.shape[1] // 2, -1, query.shape[-1])
        keys = cache.key_blocks.index_select(0, chunk.blocks).view(shape)
        values = cache.value_blocks.index_select(0, chunk.blocks).view(shape)
    return functional.scaled_dot_product_attention(
        query.transpose(0, 1).unsqueeze(0),
        keys.unsqueeze(0),
        values.unsqueeze(0),
        attn_mask=chunk.bias,
        is_causal=chunk.bias is None,
        enable_gqa=True,
    )[0].transpose(0, 1)


def _new_slots(cache: KvCache, spans: Sequence[Span]) -> Tensor:
    """Where the keys, then the values, of each new token go: rows of a layer's ``LayerCache.slots``."""
    size = cache.block_size
    places = [
        (span.block_table[position // size], position % size)
        for span in spans
        for position in range(span.start, span.start + span.count)
    ]
    block, offset = torch.tensor(places).unsqueeze(-1).unbind(1)
    keys = (block * cache.kv_heads + torch.arange(cache.kv_heads)) * size + offset
    return torch.cat((keys, keys + cache.blocks * cache.kv_heads * size), dim=1).flatten()


def _layout(cache: KvCache, heads: int, window: int | None, spans: Sequence[Span]) -> _Layout:
    singles: list[tuple[int, Span]] = []
    chunks: list[_Chunk] = []
    row = 0
    for span in spans:
        if span.count == 1:
            singles.append((row, span))
        else:
            chunks.append(_chunk(cache, window, row, span))
        row += span.count
    groups: list[_Group] = []
    order: list[int] = []
    for members in _split(singles, cache, window):
        groups.append(_group(cache, heads, window, len(order), [span for _, span in members]))
        order.extend(row for row, _ in members)
    is_batch = order == list(range(row))
    return _Layout(None if is_batch else torch.tensor(order, dtype=torch.int64), tuple(groups), tuple(chunks))


def _first_block(start: int, window: int | None, block_size: int) -> int:
    """The first block of which a token at position ``start`` sees anything."""
    return 0 if window is None else max(start - window + 1, 0) // block_size


def _split(singles: list[tuple[int, Span]], cache: KvCache, window: int | None) -> list[list[tuple[int, Span]]]:
    """Groups of similar length, so that little is padding, and of bounded size."""
    blocks_max = GROUP_BYTES_MAX // cache[0].keys[0].nbytes

    def blocks(member: tuple[int, Span]) -> int:
        start = member[1].start
        return start // cache.block_size + 1 - _first_block(start, window, cache.block_size)

    groups: list[list[tuple[int, Span]]] = []
    longest = 0
    for member in sorted(singles, key=blocks, reverse=True):
        full = not groups or (len(groups[-1]) + 1) * longest > blocks_max
        if full or blocks(member) < longest * FILL_MIN:
            groups.append([])
            longest = blocks(member)
        groups[-1].append(member)
    return groups


def _group(cache: KvCache, heads: int, window: int | None, place: int, members: list[Span]) -> _Group:
    size = cache.block_size
    firsts = [_first_block(span.start, window, size) for span in members]
    tables = [
        list(span.block_table[first : span.start // size + 1]) for span, first in zip(members, firsts, strict=True)
    ]
    longest = max(len(table) for table in tables)
    for table in tables:
        table.extend(table[-1:] * (longest - len(table)))  # padding is the sequence's own last block, out of sight
    ends = torch.tensor([[span.start - first * size] for span, first in zip(members, firsts, strict=True)])
    columns = torch.arange(longest * size)
    hidden = columns > ends
    if window is not None:
        hidden |= columns <= ends - window
    blocks = _head_blocks(cache, tables)
    slots = (blocks.unsqueeze(-1) * size + torch.arange(size)).view(len(members) * cache.kv_heads, -1).int()
    slots = slots.repeat_interleave(heads // cache.kv_heads, dim=0).flatten()
    return _Group(
        place,
        place + len(members),
        blocks,
        _bias(hidden).repeat_interleave(cache.kv_heads, dim=0).unsqueeze(1),
        slots,
        torch.arange(0, slots.numel() + 1, longest * size, dtype=torch.int32),
    )


def _chunk(cache: KvCache, window: int | None, row: int, span: Span) -> _Chunk:
    size, end = cache.block_size, span.start + span.count
    first = _first_block(span.start, window, size)
    table = span.block_table[first : (end - 1) // size + 1] if span.start > 0 else None
    if table is None and (window is None or end <= window):
        return _Chunk(row, row + span.count, None, None)
    queries = torch.arange(span.start, end).unsqueeze(1)
    columns = torch.arange(end) if table is None else torch.arange(first * size, (first + len(table)) * size)
    hidden = columns > queries
    if window is not None:
        hidden |= columns <= queries - window
    blocks = None if table is None else _head_blocks(cache, [list(table)])
    return _Chunk(row, row + span.count, blocks, _bias(hidden).to(cache.dtype))


def _bias(hidden: Tensor) -> Tensor:
    """What to add to scores: minus infinity where a position is hidden, else 0."""
    return torch.zeros(hidden.shape).masked_fill_(hidden, -math.inf)


def _head_blocks(cache: KvCache, tables: list[list[int]]) -> Tensor:
    """Rows of the cache seen as [blocks * kv_heads, block_size * head_dim], ordered sequence, head, block."""
    blocks = torch.tensor(tables).unsqueeze(1)
    heads = torch.arange(cache.kv_heads).view(1, -1, 1)
    return (blocks * cache.kv_heads + heads).flatten()
