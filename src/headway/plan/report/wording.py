"""How the figures of a plan are said to people."""

from __future__ import annotations

from headway.bench.report.wording import NONE, between, duration, number, share
from headway.plan.outcome import BandRecord, Figure, Option


def option_name(option: Option) -> str:
    """4 x h100-sxm, TP 2, bf16"""
    parallel = f", TP {option.tp}" if option.tp > 1 else ""
    return f"{option.gpus} x {option.gpu}{parallel}, {option.precision}".removesuffix(", ")


def dollars(value: float | None) -> str:
    if value is None:
        return "no price"
    return f"${value:,.2f}" if value < 1000 else f"${value:,.0f}"


def gigabytes(value: float) -> str:
    return f"{number(value / 1e9)} GB"


def seconds(figure: Figure | None) -> str:
    return NONE if figure is None else duration(figure.value)


def interval(figure: Figure | None, *, is_share: bool = False) -> str:
    """Over the seeds; empty where one seed can't tell."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    said = share if is_share else duration
    return f"{between(said(figure.low), said(figure.high))} over seeds"


def band(record: BandRecord | None) -> str:
    """-12 % to +15 %"""
    if record is None:
        return NONE
    return f"{100 * (record.low - 1):+.0f} % to {100 * (record.high - 1):+.0f} %".replace("-", "\u2212")
