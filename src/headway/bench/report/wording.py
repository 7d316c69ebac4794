"""How figures are said to people: units, roundings, and the words for misses. Said the same in every form."""

from __future__ import annotations

from headway.bench.figures import ClassFigures, ClientHealth, Level, Quantiles

NONE = "–"
NAME_MAX = 16
"""Characters of a name in a chart."""

MISS_WORDS = {
    "ttft": "first token late",
    "itl": "tokens late",
    "e2e": "end late",
    "refused": "refused",
    "timeout": "timed out",
    "connect": "no connection",
    "broken": "broken off",
    "malformed": "malformed",
    "client": "no socket left here",
    "error": "server error",
    "cut": "cut off",
}
PART_WORDS = {
    "ttft": "TTFT",
    "itl": "ITL",
    "e2e": "E2E",
    "tpot": "TPOT",
    "stall": "Stall",
    "queue": "Queue",
    "chunk_gap": "Chunk gap",
    "ttft_sent": "TTFT from real send",
    "ttfo": "Time to first output",
}


def number(value: float | None) -> str:
    """Three digits that matter, thousands apart: 0.125, 12.5, 1 250."""
    if value is None:
        return NONE
    size = abs(value)
    places = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{places}f}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """183 ms, 1.25 s, 12.5 s, 320 s; below 10 ms with one more digit."""
    if seconds is None:
        return NONE
    if seconds < 0.9995:
        milliseconds = seconds * 1000.0
        return f"{milliseconds:.0f} ms" if milliseconds >= 99.95 else f"{milliseconds:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 10.0 else f"{seconds:.1f} s" if seconds < 100.0 else f"{seconds:.0f} s"


def share(value: float | None) -> str:
    """98.4 %. Never 100 where something is missing, nor 0 where something is there."""
    if value is None:
        return NONE
    if value < 1e-9 or value > 1.0 - 1e-9:
        return f"{100.0 * value:.0f} %"
    return f"{min(99.9, max(0.1, 100.0 * value)):.1f} %"


def between(low: str, high: str) -> str:
    """An interval whose ends are already said: the unit only once where it is the same."""
    low_number, _, low_unit = low.partition(" ")
    return f"{low_number} to {high}" if low_unit and low_unit == high.partition(" ")[2] else f"{low} to {high}"


def p95_interval(quantiles: Quantiles) -> str:
    """Of p95; an open end where too few values bound it."""
    low, high = quantiles.p95_low, quantiles.p95_high
    if low is None and high is None:
        return f"n {quantiles.n}: too few to say"
    if low is None:
        return f"up to {duration(high)}"
    return f"{duration(low)} or more" if high is None else between(duration(low), duration(high))


def attainment_interval(figures: ClassFigures) -> str:
    if figures.attainment_low is None or figures.attainment_high is None:
        return NONE
    return between(share(figures.attainment_low), share(figures.attainment_high))


def misses(figures: ClassFigures) -> str:
    """By cause, most first."""
    most_first = sorted(figures.misses.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{MISS_WORDS.get(cause, cause)} {count}" for cause, count in most_first if count) or "none"


def client_line(client: ClientHealth) -> str:
    cost = "" if client.cpu_us_per_token is None else f", {number(client.cpu_us_per_token)} µs CPU a token"
    processes = f"{client.processes} process{'es' if client.processes != 1 else ''}"
    return (
        f"{processes}, busiest {share(client.cpu_share)} of a core{cost}; "
        f"sent late by {duration(client.slip_p99_s)} at p99, {duration(client.slip_max_s)} at most; "
        f"event loop late by {duration(client.lag_p99_s)} at p99"
    )


def short_name(level: Level) -> str:
    """For a mark in a chart: 4/s, 16."""
    rate, at_once = level.load.get("rate"), level.load.get("concurrency")
    if isinstance(rate, (int, float)) and rate:
        return f"{rate:g}/s"
    if isinstance(at_once, int):
        return str(at_once)
    return level.name if len(level.name) <= NAME_MAX else f"{level.name[: NAME_MAX - 1]}…"


def class_name(figures: ClassFigures) -> str:
    return figures.name or "all"


def classes_held(level: Level) -> list[ClassFigures]:
    """The classes as they were promised something: each of them, or all together where there is only one."""
    return [each for each in level.classes if each.name] or level.classes[:1]


def has_targets(figures: ClassFigures) -> bool:
    return any(each is not None for each in (figures.ttft_target_s, figures.itl_target_s, figures.e2e_target_s))
