"""A GPU as a record: what its data sheet says, what of it is reached, how it talks to its neighbours, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.plan.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a figure is from. ``date``: when it was read, YYYY-MM or YYYY-MM-DD; None where the source states none."""

    name: str
    date: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """Time of one matrix product, seconds = ``start_s`` + ((F / (P * compute))^p + (bytes / (W * memory))^p)^(1 / p):
    a smooth maximum of F operations at peak P and bytes at bandwidth W, with the shares of both that are reached.
    ``assumed``: nobody fitted them to products that were measured; predictions that rest on them are fragile."""

    start_s: float
    compute: float
    memory: float
    p: float
    assumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """``start_s``: of one kernel. ``decode_memory``: share of the bandwidth at which decodes read large KV caches.
    ``prefill``: (prompt tokens, share of the bf16 peak) in ascending order, interpolated in between."""

    start_s: float
    decode_memory: float
    prefill: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduce:
    """Ring all-reduce over n GPUs of S bytes: ``start_s[n]`` + 2 * (n - 1) / n * S / ``bus[n]`` (bytes/s)."""

    start_s: Mapping[int, float]
    bus: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How GPUs of one server are joined. ``kind``: "nvswitch", "nvlink-bridge", "xgmi", "pcie". ``bandwidth``: bytes/s
    per GPU and direction. ``all_reduce``: measured, or None where it is assumed from the kind. ``most``: GPUs that one
    link domain joins. ``assumed``: nobody measured this; predictions that rest on it are fragile."""

    kind: str
    bandwidth: float
    most: int
    all_reduce: AllReduce | None = None
    assumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars an hour for one GPU."""

    usd_per_hour: float
    provider: str
    date: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. ``memory_bytes``: what software can use, as the driver reports it. ``peaks``: dense operations a second
    (a multiply and an add are two). ``gemm``: fitted rates by precision, where somebody measured; others fall back to
    flat shares. ``aliases``: what else it is called. ``consumer``: for desktops by its maker's terms, so planned only
    where it is asked for. ``sources``: by field name."""

    name: str
    title: str
    vendor: str
    memory_bytes: float
    bandwidth: float
    peaks: Mapping[Precision, float]
    link: Link
    power_w: float | None = None
    prices: tuple[Price, ...] = ()
    gemm: Mapping[Precision, Gemm] = field(default_factory=dict)
    attention: Attention | None = None
    aliases: tuple[str, ...] = ()
    consumer: bool = False
    sources: Mapping[str, Source] = field(default_factory=dict)

    @property
    def price(self) -> Price | None:
        """The default price: the first that is listed."""
        return self.prices[0] if self.prices else None
