"""What of a GPU's memory is left for the KV cache, and how many sequences that holds."""

from __future__ import annotations

from dataclasses import dataclass

from headway.plan.errors import PlanError
from headway.plan.setup import Setup

GB = 1e9
LOGIT_ROWS = 256
"""Sequences whose logits an engine makes room for at once."""
_LOGIT_BYTES = 8.0
"""Of one logit while it is drawn from: fp32, and a sorted copy."""
_ACTIVATION_BYTES = 2.0
REFERENCE_TOKENS = 4096
"""Layers with a window hold less of longer sequences: tokens of the pool are counted for sequences of this length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on each GPU. ``total``: what the engine takes. ``weights`` + ``activations`` + ``other`` + KV cache and
    what the engine leaves unused make it up. ``kv_tokens``: of the whole replica, in whole blocks; its GPUs hold shares
    of the same tokens."""

    total: float
    weights: float
    activations: float
    other: float
    kv_bytes: float
    kv_tokens: int

    @property
    def weight_share(self) -> float:
        """Of the memory for weights and KV cache together."""
        return self.weights / (self.weights + self.kv_bytes)


def memory(setup: Setup, max_step_tokens: int | None = None) -> Memory:
    """Raises ``PlanError`` where the weights don't fit, or leave no block for the KV cache."""
    model, engine, tp = setup.model, setup.engine, setup.tp
    total = setup.gpu.memory_bytes * engine.utilisation
    weights = model.weight_bytes(setup.precision, tp)
    active = activation_bytes(setup, engine.max_step_tokens if max_step_tokens is None else max_step_tokens)
    kv_bytes = (total - weights - active - engine.other_bytes) * engine.kv_share
    per_token = model.kv_bytes(REFERENCE_TOKENS, setup.kv_precision, tp) / REFERENCE_TOKENS
    blocks = int(max(0.0, kv_bytes) / per_token) // engine.block_tokens
    if blocks < 1:
        raise PlanError(_too_big(setup, total, weights, active))
    return Memory(
        total=total,
        weights=weights,
        activations=active,
        other=engine.other_bytes,
        kv_bytes=kv_bytes,
        kv_tokens=blocks * engine.block_tokens,
    )


def activation_bytes(setup: Setup, step_tokens: int) -> float:
    """The largest there are at once: of a feed-forward layer for a whole step, and the logits of those that draw."""
    model = setup.model
    width = model.ffn if model.experts is None else max(model.ffn, model.experts.width * model.experts.active)
    layer = min(step_tokens, ACTIVATION_TOKENS) * (2 * model.hidden + model.ffn_matrices * width / setup.tp)
    return layer * _ACTIVATION_BYTES + LOGIT_ROWS * model.vocab * _LOGIT_BYTES


ACTIVATION_TOKENS = 16_384
"""Engines without a limit on a step's tokens split longer prompts."""


def _too_big(setup: Setup, total: float, weights: float, active: float) -> str:
    model, gpu = setup.model, setup.gpu
    needed = weights + active + setup.engine.other_bytes
    return (
        f"{model.name} in {setup.precision} doesn't fit {setup.tp} x {gpu.title}: each needs {needed / GB:.1f} GB "
        f"(weights {weights / GB:.1f}) of the {total / GB:.1f} GB that {setup.engine.name} uses, and a "
        "KV cache; use more GPUs, fewer bits or a smaller model"
    )
