"""One GPU as a data file states it: figures in the units of data sheets, checked against what GPUs can be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from headway.plan.errors import PlanError
from headway.plan.gpu import AllReduce, Attention, Gemm, Gpu, Link, Price, Source
from headway.plan.precision import Precision

Kind = Literal["nvswitch", "nvlink-bridge", "xgmi", "pcie"]


class GemmRecord(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``assumed``: see ``Gemm``."""

    start_us: float
    compute: float
    memory: float
    p: float
    assumed: bool = False


class AttentionRecord(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    start_us: float
    decode_memory: float
    prefill: list[tuple[int, float]]


class LinkRecord(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``all_reduce_us`` and ``all_reduce_gb_s``: by number of GPUs, both or neither; without them, or where
    ``assumed`` says that they are another GPU's, what an all-reduce costs here was not measured."""

    kind: Kind
    gb_s: float
    most: int = 8
    all_reduce_us: dict[int, float] = {}
    all_reduce_gb_s: dict[int, float] = {}
    assumed: bool = False


class PriceRecord(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    usd_per_hour: float
    provider: str
    date: str | None = None


class SourceRecord(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    name: str
    date: str | None = None


class GpuRecord(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Exactly one of the ``memory_*`` and one of the ``bandwidth_*`` is given. ``sources`` names, by field, one of the
    file's sources, or says it in words. ``rates_of``: whose measured ``gemm`` and ``attention`` rates are taken, a GPU
    with the same kind of cores."""

    title: str = ""
    vendor: str = ""
    aliases: list[str] = []
    memory_mib: float | None = None
    memory_gb: float | None = None
    bandwidth_gb_s: float | None = None
    bandwidth_tb_s: float | None = None
    peak_tflops: dict[Precision, float]
    link: LinkRecord
    power_w: float | None = None
    prices: list[PriceRecord] = []
    gemm: dict[Precision, GemmRecord] = {}
    attention: AttentionRecord | None = None
    rates_of: str | None = None
    consumer: bool = False
    sources: dict[str, str] = {}


UNITS = {
    "memory_mib": (1024.0, 1024.0 * 1024.0, 1024.0, "MiB", "KiB", "GiB"),
    "memory_gb": (1.0, 1000.0, 1000.0, "GB", "MB", "TB"),
    "bandwidth_gb_s": (20.0, 50_000.0, 1000.0, "GB/s", "MB/s", "TB/s"),
    "bandwidth_tb_s": (0.02, 50.0, 1000.0, "TB/s", "GB/s", "PB/s"),
    "peak_tflops": (1.0, 100_000.0, 1000.0, "TFLOP/s", "GFLOP/s", "PFLOP/s"),
    "link.gb_s": (1.0, 5000.0, 1000.0, "GB/s", "MB/s", "TB/s"),
    "link.all_reduce_gb_s": (0.1, 5000.0, 1000.0, "GB/s", "MB/s", "TB/s"),
    "link.all_reduce_us": (0.5, 1000.0, 1000.0, "microseconds", "nanoseconds", "milliseconds"),
    "power_w": (10.0, 5000.0, 1000.0, "W", "mW", "kW"),
    "usd_per_hour": (0.01, 500.0, 100.0, "dollars", "cents", "hundreds of dollars"),
    "start_us": (0.1, 500.0, 1000.0, "microseconds", "nanoseconds", "milliseconds"),
    "share of the peak": (0.01, 1.0, 100.0, "as a fraction", "per cent", "hundreds"),
    "gemm.p": (0.5, 20.0, 1000.0, "", "thousandths", "thousands"),
}
"""Least and most believable value, what separates it from its neighbours, its unit, the smaller unit, the larger."""

MOST_GPUS = 1024


def within(where: str, field: str, value: float, kind: str | None = None) -> float:
    """The value, if it can be right; else ``PlanError`` with the unit that was probably meant."""
    least, most, step, unit, smaller, larger = UNITS[kind or field]
    if least <= value <= most:
        return value
    guess = ""
    for other, meant in ((smaller, value / step), (larger, value * step)):
        if math.isfinite(value) and least <= meant <= most:
            guess = f"; if {value:g} is in {other}, write {meant:.6g}"
            break
    raise PlanError(f"{where}: {field} = {value:g} is outside {least:g} to {most:g} {unit}".rstrip() + guess)


def to_gpu(name: str, record: GpuRecord, sources: Mapping[str, SourceRecord], date: str | None, where: str) -> Gpu:
    """``date``: of sources that are said in words. Raises ``PlanError`` naming ``where``, the field, and what would be
    believable."""
    if not record.peak_tflops:
        raise PlanError(f"{where}: peak_tflops is empty; give at least one, as {{ bf16 = 989 }}")
    return Gpu(
        name=name,
        title=record.title or name,
        vendor=record.vendor,
        memory_bytes=_one(where, record, {"memory_mib": 1024.0**2, "memory_gb": 1e9}),
        bandwidth=_one(where, record, {"bandwidth_gb_s": 1e9, "bandwidth_tb_s": 1e12}),
        peaks={
            precision: within(where, f"peak_tflops.{precision}", peak, "peak_tflops") * 1e12
            for precision, peak in record.peak_tflops.items()
        },
        link=_link(record.link, where),
        power_w=None if record.power_w is None else within(where, "power_w", record.power_w),
        prices=tuple(
            Price(usd_per_hour=within(where, "usd_per_hour", each.usd_per_hour), provider=each.provider, date=each.date)
            for each in record.prices
        ),
        gemm={precision: _gemm(gemm, f"{where}: gemm.{precision}") for precision, gemm in record.gemm.items()},
        attention=None if record.attention is None else _attention(record.attention, f"{where}: attention"),
        aliases=tuple(record.aliases),
        consumer=record.consumer,
        sources={
            field: Source(name=named.name, date=named.date)
            for field, text in record.sources.items()
            for named in (sources.get(text, SourceRecord(text, date)),)
        },
    )


def _one(where: str, record: GpuRecord, fields: Mapping[str, float]) -> float:
    given = {field: value for field in fields if (value := getattr(record, field)) is not None}
    if len(given) != 1:
        raise PlanError(f"{where}: give one of {' and '.join(fields)}, not {'both' if given else 'none'}")
    ((field, value),) = given.items()
    return within(where, field, value) * fields[field]


def _link(record: LinkRecord, where: str) -> Link:
    if not 1 <= record.most <= MOST_GPUS:
        raise PlanError(f"{where}: link.most = {record.most} must be from 1 to {MOST_GPUS} GPUs")
    if record.all_reduce_us.keys() != record.all_reduce_gb_s.keys():
        raise PlanError(f"{where}: link.all_reduce_us and link.all_reduce_gb_s must have the same numbers of GPUs")
    if any(not 2 <= count <= MOST_GPUS for count in record.all_reduce_us):
        raise PlanError(f"{where}: link.all_reduce_us: an all-reduce is among 2 to {MOST_GPUS} GPUs")
    measured = AllReduce(
        start_s={n: within(where, "link.all_reduce_us", us) * 1e-6 for n, us in sorted(record.all_reduce_us.items())},
        bus={
            n: within(where, "link.all_reduce_gb_s", rate) * 1e9 for n, rate in sorted(record.all_reduce_gb_s.items())
        },
    )
    return Link(
        kind=record.kind,
        bandwidth=within(where, "link.gb_s", record.gb_s) * 1e9,
        most=record.most,
        all_reduce=measured if record.all_reduce_us else None,
        assumed=record.assumed or not record.all_reduce_us,
    )


def _gemm(record: GemmRecord, where: str) -> Gemm:
    return Gemm(
        start_s=within(where, "start_us", record.start_us) * 1e-6,
        compute=within(where, "compute", record.compute, "share of the peak"),
        memory=within(where, "memory", record.memory, "share of the peak"),
        p=within(where, "p", record.p, "gemm.p"),
        assumed=record.assumed,
    )


def _attention(record: AttentionRecord, where: str) -> Attention:
    lengths = [length for length, _ in record.prefill]
    if not lengths or lengths[0] < 1 or sorted(set(lengths)) != lengths:
        raise PlanError(f"{where}: prefill must list (prompt tokens, share of the peak) with ascending tokens")
    return Attention(
        start_s=within(where, "start_us", record.start_us) * 1e-6,
        decode_memory=within(where, "decode_memory", record.decode_memory, "share of the peak"),
        prefill=tuple((n, within(where, "prefill", share, "share of the peak")) for n, share in record.prefill),
    )
