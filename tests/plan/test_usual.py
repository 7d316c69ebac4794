"""What is planned with where no GPU is named, and what is said of prices."""

from __future__ import annotations

from headway.plan.catalogue import find_gpu, gpus, priced
from headway.plan.usual import consumer_notes, price_notes, usual

SHIPPED = gpus()


def test_consumer_cards_are_for_those_who_ask() -> None:
    """A desktop card at a marketplace's price won most plans, for servers that may not have it."""
    names = {gpu.name for gpu in usual(SHIPPED)}
    assert {"h100-sxm", "l40s", "rtx-pro-6000"} <= names
    assert not {"rtx-3090", "rtx-4090", "rtx-5090"} & names
    own = priced(SHIPPED, {"rtx-4090": 0.5})
    assert "rtx-4090" in {gpu.name for gpu in usual(own)}
    [note] = consumer_notes(own, usual(own))
    assert "(rtx-3090, rtx-5090)" in note


def test_consumer_cards_say_why() -> None:
    for gpu in SHIPPED.values():
        assert gpu.consumer == ("GeForce" in gpu.title)
        assert not gpu.consumer or "licence" in gpu.sources["consumer"].name


def test_prices_of_others_say_how_far_they_differ() -> None:
    [note] = price_notes([SHIPPED["h100-sxm"], SHIPPED["a100-80-pcie"]])
    assert "4.2 times for h100-sxm" in note
    [alone] = price_notes([SHIPPED["a100-80-pcie"]])
    assert "differ" not in alone
    assert not price_notes([find_gpu("h100", priced(SHIPPED, {"h100": 2.5}))])
    assert not price_notes([SHIPPED["t4"]])
