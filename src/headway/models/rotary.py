"""Rotary position embedding as a checkpoint describes it: plain numbers, read from either spelling of config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.models.errors import ModelError
from headway.models.fields import Fields

KINDS = ("default", "linear", "llama3", "yarn")
DEFAULT_THETA = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """The base frequency and how it is stretched to longer contexts.

    ``kind`` is one of ``KINDS``. ``factor`` stretches positions (linear, llama3, yarn). ``original_context`` is the
    context of the first training (llama3, yarn). ``low`` and ``high`` bound the band that is blended: frequency
    factors for llama3, numbers of rotations (slow, fast) for yarn. ``attention_factor`` scales cosine and sine (yarn);
    None leaves it to the rule of the YaRN paper, with ``mscale`` and ``mscale_all_dim`` where both are given.
    """

    theta: float = DEFAULT_THETA
    kind: str = "default"
    factor: float = 1.0
    original_context: int = 0
    low: float = 1.0
    high: float = 4.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


def parse_rope(config: Mapping[str, object], context_tokens: int) -> RopeConfig:
    """Read ``rope_parameters``, or the older ``rope_theta`` and ``rope_scaling``. Raises ``ModelError``."""
    top = Fields(config, "config.json")
    spelling = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    fields = top.section(spelling)
    kind = fields.text("rope_type", fields.text("type", "default"))
    kind = "default" if kind == "none" else kind
    if kind not in KINDS:
        raise ModelError(
            f"{spelling} in config.json: rope type {kind!r} is not supported (supported: {', '.join(KINDS)})"
        )
    partial = fields.number("partial_rotary_factor", top.number("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise ModelError(f"config.json: partial_rotary_factor {partial} is not supported (must be 1)")
    theta = fields.number("rope_theta", top.number("rope_theta", DEFAULT_THETA), above=0.0)
    if kind == "default":
        return RopeConfig(theta=theta)
    factor = fields.number("factor", above=0.0)
    if kind == "linear":
        return RopeConfig(theta=theta, kind=kind, factor=factor)
    fallback = None if kind == "llama3" else context_tokens
    original = top.optional_integer("original_max_position_embeddings") or fields.integer(
        "original_max_position_embeddings", fallback
    )
    if kind == "llama3":
        low = fields.number("low_freq_factor", above=0.0)
        high = fields.number("high_freq_factor", above=low)
        return RopeConfig(theta=theta, kind=kind, factor=factor, original_context=original, low=low, high=high)
    return RopeConfig(
        theta=theta,
        kind=kind,
        factor=factor,
        original_context=original,
        low=fields.optional_number("beta_slow") or 1.0,
        high=fields.optional_number("beta_fast") or 32.0,
        attention_factor=fields.optional_number("attention_factor"),
        mscale=fields.optional_number("mscale"),
        mscale_all_dim=fields.optional_number("mscale_all_dim"),
        truncate=fields.flag("truncate", True),
    )
