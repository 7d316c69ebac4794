"""The GPUs that a plan goes through where none is named, and what its reader must know of their prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headway.plan.catalogue import OWN_PRICE
from headway.plan.gpu import Gpu


def usual(catalogue: Mapping[str, Gpu]) -> tuple[Gpu, ...]:
    """All that have a price. Consumer cards only if it is the user's own: marketplaces rent them for a tenth of what
    others cost, but their drivers' licence excludes data centres, which is what most who ask have."""
    return tuple(gpu for gpu in catalogue.values() if gpu.price is not None and (not gpu.consumer or _is_own(gpu)))


def consumer_notes(catalogue: Mapping[str, Gpu], chosen: Iterable[Gpu]) -> tuple[str, ...]:
    names = {gpu.name for gpu in chosen}
    left = [gpu.name for gpu in catalogue.values() if gpu.consumer and gpu.price is not None and gpu.name not in names]
    if not left:
        return ()
    return (
        f"consumer cards are left out ({', '.join(left)}): the licence of their drivers excludes data centres; --gpu "
        "plans with one",
    )


def price_notes(chosen: Sequence[Gpu]) -> tuple[str, ...]:
    listed = [gpu for gpu in chosen if gpu.prices and not _is_own(gpu)]
    if not listed:
        return ()
    spread, widest = max((_spread(gpu), gpu.name) for gpu in listed)
    apart = f", and they differ: {spread:.1f} times for {widest}" if spread > 1.0 else ""
    return (f"prices are those of single providers on the dates that are given{apart}; --price says yours",)


def _spread(gpu: Gpu) -> float:
    prices = [each.usd_per_hour for each in gpu.prices]
    return max(prices) / min(prices)


def _is_own(gpu: Gpu) -> bool:
    return gpu.price is not None and gpu.price.provider == OWN_PRICE
