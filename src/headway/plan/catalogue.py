"""The GPUs that are known: the shipped file, over it a user's file of the same form, and prices of one's own."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu, Price
from headway.plan.gpu_record import GpuRecord, SourceRecord, to_gpu, within
from headway.plan.names import near, squeezed

BYTES_MAX = 1 << 20
"""No file of GPUs is longer."""

OWN_PRICE = "your price"

_FILLERS = frozenset({"nvidia", "amd", "instinct", "geforce", "tesla", "gb", "hbm2e", "hbm3", "hbm3e"})
"""Words that tell no two GPUs apart."""

_SHIPPED = "gpus.toml"
_ALTERNATIVES = (("memory_mib", "memory_gb"), ("bandwidth_gb_s", "bandwidth_tb_s"))


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
    known = _records(shipped, _SHIPPED, {})
    found = _gpus(known, shipped, _SHIPPED)
    if extra is None:
        return found
    own = _decode(_text(extra), str(extra))
    records = _records(own, str(extra), known)
    sources = _File(date=own.date, sources=shipped.sources | own.sources)
    changed = {name: record for name, record in (known | records).items() if name in own.gpus}
    return priced({**found, **_gpus(known | changed, sources, str(extra), changed)}, own.prices, str(extra))


def find_gpu(name: str, catalogue: Mapping[str, Gpu]) -> Gpu:
    """By name, title or alias, in any case, punctuation and order of words. Raises ``PlanError`` with near misses."""
    wanted = _spellings(name)
    for gpu in catalogue.values():
        if wanted & frozenset().union(*map(_spellings, (gpu.name, gpu.title, *gpu.aliases))):
            return gpu
    meant = near(name, catalogue)
    hint = f"did you mean {', '.join(meant)}?" if meant else f"known: {', '.join(sorted(catalogue))}"
    raise PlanError(f"{name!r} is no GPU of the catalogue; {hint} (others: a TOML file of your own)")


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


def _records(file: _File, where: str, shipped: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the tables say, completed by the shipped GPU of the same name."""
    records: dict[str, dict[str, Any]] = {}
    for name, table in file.gpus.items():
        if not squeezed(name) or len(name) > 60:
            raise PlanError(f"{where}: [gpus.{name}]: a name has 1 to 60 letters, digits and dashes")
        records[name] = _over(shipped.get(name, {}), table)
    return records


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(base)
    for group in _ALTERNATIVES:
        if any(field in own for field in group):
            kept = {field: value for field, value in kept.items() if field not in group}
    for field, value in own.items():
        before = kept.get(field)
        kept[field] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return kept


def _gpus(
    known: Mapping[str, dict[str, Any]], file: _File, where: str, only: Mapping[str, object] | None = None
) -> dict[str, Gpu]:
    records = {name: _convert(table, f"{where}: [gpus.{name}]") for name, table in known.items()}
    found: dict[str, Gpu] = {}
    for name, record in records.items():
        if only is not None and name not in only:
            continue
        if record.rates_of is not None:
            if record.rates_of not in records:
                raise PlanError(f"{where}: [gpus.{name}]: rates_of = {record.rates_of!r} is no GPU of the catalogue")
            other = records[record.rates_of]
            record = msgspec.structs.replace(
                record, gemm=other.gemm | record.gemm, attention=record.attention or other.attention
            )
        found[name] = to_gpu(name, record, file.sources, file.date, f"{where}: [gpus.{name}]")
    return found


def _convert(table: Mapping[str, Any], where: str) -> GpuRecord:
    try:
        return msgspec.convert(table, GpuRecord, str_keys=True)
    except msgspec.ValidationError as error:
        raise PlanError(
            f"{where}: {error}; needed: memory_gb, bandwidth_tb_s, peak_tflops, link = {{ kind, gb_s }}"
        ) from None
