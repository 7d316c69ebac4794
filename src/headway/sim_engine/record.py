"""Hardware records of one's own, in TOML: the names in the file are those of the records in ``sim.hardware``."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from headway.policy.plan import ExecutorInfo
from headway.sim.hardware import VOCABULARY, Hardware, LinearHardware, RooflineHardware

BYTES_MAX = 1 << 16


class Linear(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """See ``LinearHardware``."""

    constant_s: float
    token_s: float
    sequence_s: float
    decode_context_s: float
    prefill_read_s: float


class Roofline(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """See ``RooflineHardware``."""

    overhead_s: float
    weight_bytes: float
    flops_per_token: float
    kv_bytes_per_token: float
    bandwidth: float
    bandwidth_share: float
    peak_flops: float
    peak_share: float


class Record(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One of ``linear`` and ``roofline`` says how long a step takes."""

    name: str
    description: str
    source: str = "a record of one's own"
    kv_tokens: int
    context_tokens: int
    block_size: int = 64
    linear: Linear | None = None
    roofline: Roofline | None = None


def read_hardware(path: Path) -> Hardware:
    """Raises ValueError, one line, for a file that is no record, OSError for one that can't be read."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ValueError(f"longer than {BYTES_MAX} bytes")
        record = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Record)
        return _hardware(record)
    except (ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"{path}: {error}") from None


def _hardware(record: Record) -> Hardware:
    if (record.linear is None) is (record.roofline is None):
        raise ValueError("a record has one table, [linear] or [roofline], that says how long a step takes")
    if not 1 <= record.block_size <= record.kv_tokens or record.context_tokens < 1:
        raise ValueError("block_size, kv_tokens and context_tokens must be at least 1, kv_tokens at least a block")
    info = ExecutorInfo(
        block_size=record.block_size,
        kv_blocks=record.kv_tokens // record.block_size,
        context_tokens=record.context_tokens,
        vocab_size=VOCABULARY,
        description=f"simulated {record.description}",
    )
    named: dict[str, Any] = {"name": record.name, "description": record.description, "source": record.source}
    if record.linear is not None:
        times = msgspec.structs.asdict(record.linear)
        if not (all(math.isfinite(each) and each >= 0.0 for each in times.values()) and any(times.values())):
            raise ValueError("the times of [linear] must be finite, at least 0, and not all 0")
        return LinearHardware(info=info, **named, **times)
    assert record.roofline is not None
    rates = msgspec.structs.asdict(record.roofline)
    if not all(math.isfinite(each) and each > 0.0 for each in rates.values()):
        raise ValueError("the numbers of [roofline] must be finite and above 0")
    return RooflineHardware(info=info, **named, **rates)
