"""A model as arithmetic: its matrices, bytes and operations, whatever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass

from headway.plan.errors import PlanError
from headway.plan.precision import Precision

_SCALE_BYTES = {Precision.INT4: 2 / 128, Precision.FP4: 1 / 16}
"""Scales beside each quantised weight: fp16 for groups of 128 (GPTQ, AWQ); fp8 for blocks of 16 (NVFP4; MXFP4 has half
of that). Scales of 8-bit weights are per row or large block, and too few to count."""


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
    only for tokens that draw (the output head). ``experts``: one such matrix for each of ``Experts.count`` experts in
    each of ``count`` layers, and a token passes ``Experts.active`` of them."""

    name: str
    inputs: int
    outputs: int
    count: int
    sampled: bool = False
    experts: bool = False

    @property
    def weights(self) -> int:
        """Of one product (of one expert)."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer. ``ffn_matrices``: 3 with a gate, 2 without. ``windows``: layers that see only their
    last so many positions, as (layers, positions). Tensor-parallel sizes beyond ``kv_heads`` repeat KV heads.
    ``all_reduces``: results that the GPUs of a replica add up in each layer; one where attention and feed-forward run
    side by side and engines add theirs first. ``assumed``: what of it is planned as something else, empty for nothing.
    """

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
    all_reduces: int = 2
    source: str = ""
    assumed: str = ""

    @property
    def parameters(self) -> float:
        """All weights, a tied embedding counted once. Biases are left out: they are under a thousandth."""
        blocks = sum(self._held(matrix) for matrix in self.matrices(1) if not matrix.sampled)
        return blocks + self._embeddings + self._norms

    @property
    def active_parameters(self) -> float:
        """Weights that one token passes through, the embedding's table not counted."""
        return sum(
            matrix.count * matrix.weights * (self.experts.active if matrix.experts and self.experts else 1)
            for matrix in self.matrices(1)
        )

    def splits_over(self, tp: int) -> bool:
        """Whether ``tp`` GPUs can share the attention heads evenly, as engines ask."""
        return self.heads % tp == 0 and (self.kv_heads % tp == 0 or tp % self.kv_heads == 0)

    def matrices(self, tp: int) -> tuple[Matrix, ...]:
        """All products of one step on one of ``tp`` GPUs. ``PlanError`` where the heads don't divide."""
        if not self.splits_over(tp):
            sizes = ", ".join(str(size) for size in range(1, 65) if self.splits_over(size))
            raise PlanError(f"{self.name}: {self.heads} heads can't be split over {tp} GPUs (can be: {sizes})")
        head = Matrix(name="head", inputs=self.hidden, outputs=-(-self.vocab // tp), count=1, sampled=True)
        return (*self._attention(tp), *self._feed_forward(tp), head)

    def weight_bytes(self, precision: Precision, tp: int = 1) -> float:
        """On one of ``tp`` GPUs. Embedding, output head and norms stay in bf16 when the rest is quantised."""
        blocks = sum(self._held(matrix) for matrix in self.matrices(tp) if not matrix.sampled)
        wide = max(precision.bytes, Precision.BF16.bytes)
        return blocks * (precision.bytes + _SCALE_BYTES.get(precision, 0.0)) + wide * (
            self._embeddings / tp + self._norms
        )

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """On one of ``tp`` GPUs, of layers without a window."""
        return (self.layers - sum(layers for layers, _ in self.windows)) * self._layer_kv_bytes(precision, tp)

    def kv_bytes(self, tokens: int, precision: Precision, tp: int = 1) -> float:
        """What a sequence of ``tokens`` needs on one of ``tp`` GPUs, windows included."""
        windowed = sum(layers * min(tokens, positions) for layers, positions in self.windows)
        return self.kv_bytes_per_token(precision, tp) * tokens + windowed * self._layer_kv_bytes(precision, tp)

    def _layer_kv_bytes(self, precision: Precision, tp: int) -> float:
        if self.latent is not None:
            return (self.latent.kv_rank + self.latent.rope_dim) * precision.bytes
        return 2 * self._local_kv_heads(tp) * self.head_dim * precision.bytes

    def _local_kv_heads(self, tp: int) -> int:
        return max(1, self.kv_heads // tp)

    def _attention(self, tp: int) -> tuple[Matrix, ...]:
        heads = self.heads // tp
        if self.latent is None:
            qkv = (heads + 2 * self._local_kv_heads(tp)) * self.head_dim
            return (
                Matrix(name="qkv", inputs=self.hidden, outputs=qkv, count=self.layers),
                Matrix(name="output", inputs=heads * self.head_dim, outputs=self.hidden, count=self.layers),
            )
        latent = self.latent
        query, compressed = heads * (latent.nope_dim + latent.rope_dim), latent.kv_rank + latent.rope_dim
        products = [  # every GPU compresses for itself; only the heads are split
            ("q", self.hidden, query) if latent.q_rank is None else ("q-up", latent.q_rank, query),
            ("down", self.hidden, compressed + (latent.q_rank or 0)),
            ("kv-up", latent.kv_rank, heads * (latent.nope_dim + latent.value_dim)),
            ("output", heads * latent.value_dim, self.hidden),
        ]
        return tuple(Matrix(name=name, inputs=n, outputs=k, count=self.layers) for name, n, k in products)

    def _feed_forward(self, tp: int) -> tuple[Matrix, ...]:
        dense = self.layers - (self.experts.layers if self.experts else 0)
        found = self._two("", self.ffn, dense, tp) if dense else ()
        if self.experts is None:
            return found
        layers = self.experts.layers
        router = Matrix(name="router", inputs=self.hidden, outputs=self.experts.count, count=layers)
        shared = self._two("shared-", self.experts.shared_width, layers, tp) if self.experts.shared_width else ()
        return (*found, router, *shared, *self._two("expert-", self.experts.width, layers, tp, experts=True))

    def _two(self, prefix: str, width: int, count: int, tp: int, experts: bool = False) -> tuple[Matrix, Matrix]:
        local, rows = -(-width // tp), self.ffn_matrices - 1
        return (
            Matrix(name=f"{prefix}up", inputs=self.hidden, outputs=rows * local, count=count, experts=experts),
            Matrix(name=f"{prefix}down", inputs=local, outputs=self.hidden, count=count, experts=experts),
        )

    def _held(self, matrix: Matrix) -> int:
        """Weights behind a product, whether a token passes them or not."""
        return matrix.count * matrix.weights * (self.experts.count if matrix.experts and self.experts else 1)

    @property
    def _embeddings(self) -> int:
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def _norms(self) -> int:
        return (2 * self.layers + 1) * self.hidden
