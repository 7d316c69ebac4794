"""A model as arithmetic: its matrices, bytes and operations, whatever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass

from headway.plan.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Feed-forward layers of experts. ``layers``: how many layers have them (the others are dense). ``width``: of one
    expert; ``shared_width``: of what every token passes besides, 0 for none."""

    count: int
    active: int
    width: int
    layers: int
    shared_width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek): the KV cache holds ``kv_rank`` + ``rope_dim`` numbers a token and layer,
    the same on every GPU."""

    kv_rank: int
    rope_dim: int
    q_rank: int | None
    nope_dim: int
    value_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """``count`` products of (tokens x ``inputs``) by (``inputs`` x ``outputs``) in one step, on one GPU. ``sampled``:
    only for tokens that draw (the output head). ``experts``: held by experts, of which a step touches some."""

    name: str
    inputs: int
    outputs: int
    count: int
    sampled: bool = False
    experts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer. ``ffn_matrices``: 3 with a gate, 2 without. ``windows``: layers that see only their
    last so many positions, as (layers, positions). ``parallel``: tensor-parallel sizes beyond ``kv_heads`` repeat KV
    heads."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    ffn_matrices: int
    vocab: int
    tied: bool
    context_tokens: int
    windows: tuple[tuple[int, int], ...] = ()
    experts: Experts | None = None
    latent: Latent | None = None
    source: str = ""

    @property
    def parameters(self) -> float:
        """All weights, a tied embedding counted once."""
        raise NotImplementedError

    @property
    def active_parameters(self) -> float:
        """Weights that one token passes through, the embedding's table not counted."""
        raise NotImplementedError

    def matrices(self, tp: int) -> tuple[Matrix, ...]:
        """All products of one step on one of ``tp`` GPUs."""
        raise NotImplementedError

    def weight_bytes(self, precision: Precision, tp: int = 1) -> float:
        """On one of ``tp`` GPUs. Embedding, output head and norms stay in bf16 when the rest is quantised."""
        raise NotImplementedError

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """On one of ``tp`` GPUs, of layers without a window."""
        raise NotImplementedError
