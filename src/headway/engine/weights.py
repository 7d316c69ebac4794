"""Weights from a checkpoint (or invented ones) to packed linear layers, one rank's slice of each.

Only safetensors are read; ``headway.models.checkpoint`` has checked them against the configuration before.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from zlib import crc32

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray
from safetensors import safe_open

from headway.models.checkpoint import read_tensors
from headway.models.config import ModelConfig
from headway.models.errors import ModelError
from headway.models.layout import EMBEDDING, FINAL_NORM, HEAD, block_prefix, expected_tensors

RANDOM_DEVIATION = 0.02
"""Standard deviation of invented weights, as in the usual initialisation."""

EVERYTHING = slice(None)

Weight = NDArray[Any]
"""In bf16 (``ml_dtypes.bfloat16``), fp16 or fp32."""

Table = TypeVar("Table")
Linear = TypeVar("Linear")
Norm = TypeVar("Norm")
TableMade = TypeVar("TableMade", covariant=True)
LinearMade = TypeVar("LinearMade", covariant=True)
NormMade = TypeVar("NormMade", covariant=True)


class Packing(Protocol[TableMade, LinearMade, NormMade]):
    """What a kind of kernels makes of weights, once, when they are loaded. All weights may be kept, so they are not
    written afterwards."""

    @property
    def pairs_up(self) -> bool:
        """Whether the two dimensions that rotary positions turn are to lie side by side (``pair_up``)."""
        ...

    def table(self, weight: Weight) -> TableMade:
        """``weight``: [rows, size], whose rows are only looked up."""
        ...

    def pack(self, weight: Weight, bias: Weight | None) -> LinearMade:
        """``weight``: [outputs, inputs]."""
        ...

    def pack_gated(self, weight: Weight, bias: Weight | None) -> LinearMade:
        """The same, of a gate's outputs and as many that it gates, one after the other."""
        ...

    def norm(self, weight: Weight, epsilon: float) -> NormMade:
        """``weight``: [size]."""
        ...


@dataclass(frozen=True, slots=True)
class BlockWeights(Generic[Linear, Norm]):
    """One block. ``qkv`` gives queries, keys and values side by side, ``gate_up`` the two feed-forward halves."""

    attention_norm: Norm
    qkv: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    output: Linear
    feed_forward_norm: Norm
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class DecoderWeights(Generic[Table, Linear, Norm]):
    """``head`` gives this rank's share of the vocabulary, all ranks the same number of rows, the last ones padded."""

    embedding: Table
    blocks: tuple[BlockWeights[Linear, Norm], ...]
    final_norm: Norm
    head: Linear


@dataclass(frozen=True, slots=True)
class Shard:
    """Which slice of each weight a rank holds. Raises ``ModelError`` where the model can't be cut that way.

    With more ranks than key/value heads, ranks that share one hold a copy each.
    """

    config: ModelConfig
    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        heads, kv_heads = self.config.heads, self.config.kv_heads
        cuts_kv = kv_heads % self.size == 0 or self.size % kv_heads == 0
        if heads % self.size or self.config.intermediate_size % self.size or not cuts_kv:
            raise ModelError(
                f"{self.size} ranks can't share {heads} heads, {kv_heads} key/value heads and "
                f"{self.config.intermediate_size} feed-forward units evenly"
            )

    @property
    def heads(self) -> int:
        return self.config.heads // self.size

    @property
    def kv_heads(self) -> int:
        return max(self.config.kv_heads // self.size, 1)

    @property
    def intermediate(self) -> slice:
        return self._part(self.config.intermediate_size // self.size)

    @property
    def query(self) -> slice:
        return self._part(self.heads * self.config.head_dim)

    @property
    def key(self) -> slice:
        first = self.rank * self.config.kv_heads // self.size * self.config.head_dim
        return slice(first, first + self.kv_heads * self.config.head_dim)

    @property
    def vocabulary(self) -> slice:
        return self._part(-(-self.config.vocab_size // self.size))

    def _part(self, length: int) -> slice:
        return slice(self.rank * length, (self.rank + 1) * length)


class Tensors(Protocol):
    """Where weights come from."""

    def read(self, name: str, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> Weight:
        """A tensor or part of it (``columns`` for matrices only). Not to be written: it may be a view."""
        ...


class CheckpointTensors:
    """A directory of safetensors files."""

    def __init__(self, directory: Path, config: ModelConfig) -> None:
        self._entries = read_tensors(directory, config)
        self._files: dict[Path, Any] = {
            file: safe_open(file, framework="np") for file in {entry.file for entry in self._entries.values()}
        }

    def read(self, name: str, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> Weight:
        file = self._files[self._entries[name].file]
        if rows == EVERYTHING and columns == EVERYTHING:
            tensor: Weight = file.get_tensor(name)
            return tensor
        part: Weight = file.get_slice(name)[rows] if columns == EVERYTHING else file.get_slice(name)[rows, columns]
        return part


class RandomTensors:
    """Invented weights: norms are ones, all else is noise that depends on the seed and the tensor's name alone."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self._shapes = expected_tensors(config)
        self._seed = seed

    def read(self, name: str, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> Weight:
        shape = self._shapes[name]
        if name.endswith("norm.weight"):
            return np.ones(shape, dtype=bfloat16)
        generator = np.random.default_rng(crc32(name.encode(), self._seed))
        noise = (generator.standard_normal(shape, np.float32) * np.float32(RANDOM_DEVIATION)).astype(bfloat16)
        return noise[rows] if columns == EVERYTHING else noise[rows, columns]


def pair_up(weight: Weight, head_dim: int) -> Weight:
    """``weight`` ([heads * head_dim, ...]), the two dimensions that rotary positions turn together side by side."""
    halves = weight.reshape(-1, 2, head_dim // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def return_freed_memory() -> None:
    """Give the system back what was freed. Left alone, glibc keeps the room of every weight that was repacked."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library: nothing to do
            ctypes.CDLL(None).malloc_trim(0)


def load_weights(
    tensors: Tensors,
    shard: Shard,
    packing: Packing[Table, Linear, Norm],
    progress: Callable[[float], None] | None = None,
) -> DecoderWeights[Table, Linear, Norm]:
    """Read, cut and pack everything, block by block. ``progress`` is told the share done."""
    config = shard.config
    blocks = []
    for layer in range(config.layers):
        blocks.append(_load_block(_Reader(tensors, block_prefix(layer), packing, config), shard))
        return_freed_memory()
        if progress is not None:
            progress((layer + 1) / (config.layers + 1))
    reader = _Reader(tensors, "", packing, config)
    embedding = tensors.read(EMBEDDING)
    wanted = shard.vocabulary
    rows = slice(min(wanted.start, config.vocab_size), min(wanted.stop, config.vocab_size))
    head = embedding[rows] if config.tied_embeddings else tensors.read(HEAD, rows)
    head = np.pad(head, ((0, wanted.stop - wanted.start - len(head)), (0, 0))) if wanted != rows else head
    table, packed_head = packing.table(embedding), packing.pack(head, None)
    del embedding, head
    return_freed_memory()
    return DecoderWeights(table, tuple(blocks), reader.norm(FINAL_NORM), packed_head)


def _load_block(reader: _Reader[Table, Linear, Norm], shard: Shard) -> BlockWeights[Linear, Norm]:
    config, intermediate = shard.config, shard.intermediate
    qkv = (
        _Part("self_attn.q_proj", shard.query, True),
        _Part("self_attn.k_proj", shard.key, True),
        _Part("self_attn.v_proj", shard.key),
    )
    gate_up = (_Part("mlp.gate_proj", intermediate), _Part("mlp.up_proj", intermediate))
    pack, pack_gated = reader.packing.pack, reader.packing.pack_gated
    # Biases of layers whose outputs are summed over ranks are added once, by the first rank.
    adds_bias = shard.rank == 0
    return BlockWeights(
        attention_norm=reader.norm("input_layernorm.weight"),
        qkv=pack(*reader.side_by_side(qkv, biased=config.qkv_bias)),
        query_norm=reader.norm("self_attn.q_norm.weight", turns=True) if config.qk_norm else None,
        key_norm=reader.norm("self_attn.k_norm.weight", turns=True) if config.qk_norm else None,
        output=pack(*reader.summed("self_attn.o_proj", shard.query, biased=config.output_bias and adds_bias)),
        feed_forward_norm=reader.norm("post_attention_layernorm.weight"),
        gate_up=pack_gated(*reader.side_by_side(gate_up, biased=config.mlp_bias)),
        down=pack(*reader.summed("mlp.down_proj", intermediate, biased=config.mlp_bias and adds_bias)),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer's share of a wider one: the outputs it gives, and whether rotary positions turn them."""

    name: str
    rows: slice
    turns: bool = False


class _Reader(Generic[Table, Linear, Norm]):
    """Reads the tensors of one block, by the names they have within it."""

    def __init__(
        self, tensors: Tensors, prefix: str, packing: Packing[Table, Linear, Norm], config: ModelConfig
    ) -> None:
        self.packing = packing
        self._tensors = tensors
        self._prefix = prefix
        self._config = config

    def norm(self, name: str, *, turns: bool = False) -> Norm:
        return self.packing.norm(self._read(name, turns=turns), self._config.norm_epsilon)

    def side_by_side(self, parts: tuple[_Part, ...], *, biased: bool) -> tuple[Weight, Weight | None]:
        """Weight and bias of one layer out of several that read the same input, cut by output."""

        def joined(kind: str) -> Weight:
            return np.concatenate([self._read(f"{part.name}.{kind}", part.rows, turns=part.turns) for part in parts])

        return joined("weight"), joined("bias") if biased else None

    def summed(self, name: str, columns: slice, *, biased: bool) -> tuple[Weight, Weight | None]:
        """Those of a layer cut by input: its outputs are a sum over ranks."""
        return self._read(f"{name}.weight", columns=columns), self._read(f"{name}.bias") if biased else None

    def _read(self, name: str, rows: slice = EVERYTHING, columns: slice = EVERYTHING, *, turns: bool = False) -> Weight:
        tensor = self._tensors.read(self._prefix + name, rows, columns)
        return pair_up(tensor, self._config.head_dim) if turns and self.packing.pairs_up else tensor
