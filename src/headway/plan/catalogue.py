"""The GPUs that are known: the shipped file, over it a user's file of the same form, and prices of one's own."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import msgspec

from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu, Price
from headway.plan.gpu_record import GpuRecord, Kind, SourceRecord, to_gpu, within
from headway.plan.names import near, squeezed

BYTES_MAX = 1 << 20
"""No file of GPUs is longer."""

NAME_MAX = 60

OWN_PRICE = "your price"

_FILLERS = frozenset({"nvidia", "amd", "instinct", "geforce", "tesla", "gb", "hbm2e", "hbm3", "hbm3e"})
"""Words that tell no two GPUs apart."""

_SHIPPED = "gpus.toml"
_NEEDED = "memory_gb, bandwidth_tb_s, peak_tflops = { bf16 = ... }, link = { kind = ..., gb_s = ... }"
_ABOUT = {
    "memory_mib": "memory",
    "memory_gb": "memory",
    "bandwidth_gb_s": "bandwidth",
    "bandwidth_tb_s": "bandwidth",
    "power_w": "power",
}
"""What a field is about, as sources name it."""


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``date``: of sources that are said in words. ``prices``: dollars an hour by GPU, put before the records'."""

    date: str | None = None
    gpus: dict[str, dict[str, Any]] = {}
    sources: dict[str, SourceRecord] = {}
    prices: dict[str, float] = {}


def gpus(extra: Path | None = None) -> Mapping[str, Gpu]:
    """By name: the shipped catalogue, and over it a user's TOML file. There, ``[gpus.NAME]`` of a shipped GPU changes
    only what it states, and ``[prices]`` sets dollars an hour by GPU. Raises ``PlanError``, one line."""
    shipped = _decode(files("headway.plan").joinpath("data", _SHIPPED).read_text(encoding="utf-8"), _SHIPPED)
    found = _gpus(shipped.gpus, shipped.gpus, shipped, _SHIPPED)
    if extra is None:
        return found
    where = str(extra)
    own = _decode(_text(extra), where)
    changed = {name: _completed(name, table, shipped.gpus.get(name, {}), where) for name, table in own.gpus.items()}
    named = _File(date=own.date or shipped.date, sources=shipped.sources | own.sources)
    return priced({**found, **_gpus(changed, shipped.gpus | changed, named, where)}, own.prices, where)


def find_gpu(name: str, catalogue: Mapping[str, Gpu]) -> Gpu:
    """By name, title or alias, in any case, punctuation and order of words. Raises ``PlanError`` with near misses."""
    wanted = _spellings(name)
    for gpu in catalogue.values():
        if wanted & _spellings(gpu.name):
            return gpu
    for gpu in catalogue.values():
        if any(wanted & _spellings(each) for each in (gpu.title, *gpu.aliases)):
            return gpu
    meant = near(name, catalogue)
    hint = f"did you mean {', '.join(meant)}?" if meant else f"known: {', '.join(sorted(catalogue))}"
    raise PlanError(f"{name[:NAME_MAX]!r} is no GPU of the catalogue; {hint} (others: a TOML file of your own)")


def _spellings(name: str) -> frozenset[str]:
    """As one word, and as words in order: "A100 80GB SXM4" is "a100-80-sxm"."""
    words = re.findall(r"[a-z0-9.]+", name.lower())
    kept = [re.sub(r"^(\d+)gb$|^(sxm)\d$", r"\1\2", word) for word in words]
    kept = [word for word in kept if word not in _FILLERS]
    return frozenset({squeezed(name), " ".join(sorted(kept))} - {""})


def parse_price(text: str) -> tuple[str, float]:
    """The option value ``GPU=DOLLARS``, as "h100-sxm=2.95", dollars an hour for one GPU."""
    name, equals, dollars = text.partition("=")
    try:
        price = float(dollars.strip().removeprefix("$"))
    except ValueError:
        price = math.nan
    if not equals or not name.strip() or math.isnan(price):
        raise PlanError(f"price {text!r} must be GPU=DOLLARS an hour for one GPU, as h100-sxm=2.95")
    return name.strip(), price


def priced(catalogue: Mapping[str, Gpu], prices: Mapping[str, float], where: str = "price") -> Mapping[str, Gpu]:
    """The catalogue with these dollars an hour first among the prices of the GPUs named."""
    changed = dict(catalogue)
    for name, dollars in prices.items():
        gpu = find_gpu(name, changed)
        own = Price(usd_per_hour=within(f"{where} of {name}", "usd_per_hour", dollars), provider=OWN_PRICE, date=None)
        changed[gpu.name] = replace(gpu, prices=(own, *gpu.prices))
    return changed


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > BYTES_MAX:
            raise PlanError(f"{path}: longer than {BYTES_MAX} bytes, which no file of GPUs is")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise PlanError(f"{path}: not UTF-8 text; a TOML file of [gpus.NAME] tables was expected") from None
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror or error}") from None


def _decode(text: str, where: str) -> _File:
    try:
        return msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{where}: no TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise PlanError(
            f"{where}: {error} (a file has [gpus.NAME] tables, and may have [sources] and [prices])"
        ) from None


def _completed(name: str, own: dict[str, Any], base: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a user's table says over what ``base`` does. What it says is from it, unless it names another source."""
    if not squeezed(name) or len(name) > NAME_MAX:
        raise PlanError(f"{where}: [gpus.{name}]: a name has letters or digits, and at most {NAME_MAX} characters")
    said = {_about(field): where for field in own if field != "sources"}
    kept = {field: value for field, value in base.items() if _about(field) not in said}
    merged = {**kept, **own}
    for field in ("peak_tflops", "link", "gemm"):
        before, now = base.get(field), own.get(field)
        if isinstance(before, dict) and isinstance(now, dict) and "kind" not in now:
            measured = {"assumed": False} if "all_reduce_gb_s" in now else {}
            merged[field] = {**before, **measured, **now}
    merged["sources"] = {**base.get("sources", {}), **said, **own.get("sources", {})}
    return merged


def _about(field: str) -> str:
    return _ABOUT.get(field, field)


def _gpus(
    wanted: Mapping[str, dict[str, Any]], known: Mapping[str, dict[str, Any]], file: _File, where: str
) -> dict[str, Gpu]:
    """Those ``wanted``; rates may be taken from any that are ``known``."""
    records = {name: _convert(table, f"{where}: [gpus.{name}]") for name, table in known.items()}
    return {
        name: to_gpu(name, _with_rates(name, records, where), file.sources, file.date, f"{where}: [gpus.{name}]")
        for name in wanted
    }


def _with_rates(name: str, records: Mapping[str, GpuRecord], where: str) -> GpuRecord:
    record = records[name]
    seen, other = {name}, record.rates_of
    while other is not None:
        if other not in records or other in seen:
            raise PlanError(f"{where}: [gpus.{name}]: rates_of = {other!r} is no other GPU of the catalogue")
        taken = records[other]
        record = msgspec.structs.replace(
            record, gemm=taken.gemm | record.gemm, attention=record.attention or taken.attention
        )
        seen.add(other)
        other = taken.rates_of
    return record


def _convert(table: Mapping[str, Any], where: str) -> GpuRecord:
    try:
        return msgspec.convert(table, GpuRecord, str_keys=True)
    except msgspec.ValidationError as error:
        wanted = (
            f"a kind is one of {', '.join(get_args(Kind))}" if "$.link.kind" in str(error) else f"needed: {_NEEDED}"
        )
        raise PlanError(f"{where}: {error}; {wanted}") from None
