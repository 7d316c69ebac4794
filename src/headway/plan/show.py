"""A plan on a terminal: the options as a table, the best of them in words, and what was left out and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headway.plan.outcome import BandRecord, Figure, LoadRecord, Option, Plan, Rejected, Why
from headway.plan.records import name_of, percent, rate_said

NAMES_SHOWN = 6
"""Of those that were left out for one reason."""
FRONT_SHOWN = 6
WIDE = 112
"""Columns from which on the table has all of its own."""


def show(plan: Plan, console: Console, *, is_whole: bool = False) -> None:
    """``is_whole``: every set-up that was left out, each with its reason."""
    console.print(Group(*_question(plan)))
    if plan.best is None:
        console.print(Text(f"\nNo set-up keeps it: {plan.best_effort}.", style="bold red"))
    else:
        console.print(_table(plan, is_wide=console.width >= WIDE))
        console.print(Group(*_best(plan, plan.best)))
    if plan.what_ifs:
        console.print()
        for each in plan.what_ifs:
            console.print(Text(f"What if {each.asked}? {each.said}", style="" if each.keeps else "yellow"))
    if plan.front:
        console.print()
        console.print(Text("Pareto front of all set-ups, by closed formulas, whatever is promised", style="bold"))
        console.print(_front(plan))
    if plan.rejected:
        console.print(_rejected(plan, is_whole))
    for note in plan.notes:
        console.print(Text(f"Note: {note}", style="dim"))
    cost = plan.cost
    console.print(
        Text(
            f"{cost.considered} set-up{'s' if cost.considered != 1 else ''} considered, "
            f"{cost.simulated_requests:,} requests simulated in "
            f"{cost.wall_s:.0f} s ({cost.cpu_s:.0f} s of CPU).",
            style="dim",
        )
    )


def _question(plan: Plan) -> Iterator[Text]:
    asked, load = plan.asked, plan.asked.load
    size = "" if asked.model.parameters is None else f" ({asked.model.parameters / 1e9:.3g} B parameters)"
    yield Text(f"{asked.model.name}{size}, engine {asked.engine}, policy {asked.policy}", style="bold")
    yield Text(
        f"{load.name} at {load.rate:.4g} requests/s: prompts of {load.prompt_tokens_mean:,.0f} tokens (p95 "
        f"{load.prompt_tokens_p95:,.0f}), answers of {load.output_tokens_mean:,.0f} (p95 {load.output_tokens_p95:,.0f})"
    )
    yield Text(f"Promised to {percent(asked.target)} of the requests: {'; '.join(_promises(load))}")


def _promises(load: LoadRecord) -> Iterable[str]:
    for each in load.promises:
        parts = (("TTFT", each.ttft_s), ("ITL", each.itl_s), ("end to end", each.e2e_s))
        said = ", ".join(f"{part} {ms(value)}" for part, value in parts if value is not None)
        yield f"{each.service_class} {said}"


def _table(plan: Plan, *, is_wide: bool) -> Table:
    """A row for each option, and for each class where there are several."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2 if is_wide else 1, 0, 0))
    table.add_column("set-up", no_wrap=is_wide, overflow="fold")  # all else stays whole
    wide = ["TTFT p95", "ITL p95", "tok/s", "batch"]
    columns = ["$/h", "$/M out", "in SLO", "until", *(wide if is_wide else ["TTFT", "ITL"])]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("sure?", no_wrap=True)
    promised = [each.service_class for each in plan.asked.load.promises]
    for option in plan.options:
        style = "bold green" if option is plan.best else ""
        for place, each in enumerate(each for each in option.forecast.classes if each.service_class in promised):
            own = (
                _usd(option.usd_per_hour),
                _usd(option.usd_per_million_output_tokens),
                share(each.attainment),
                f"{rate_said(option.fits_until)}/s",
                _ms(each.ttft_p95_s),
                _ms(each.itl_p95_s),
                *(
                    (f"{option.forecast.tokens_per_s.value:,.0f}", f"{option.forecast.usage.batch:.0f}")
                    if is_wide
                    else ()
                ),
                _sure(option),
            )
            shown = own if not place else tuple(text if at in (2, 4, 5) else "" for at, text in enumerate(own))
            name = name_of(option) if not place else f"  {each.service_class}"
            table.add_row(name, *shown, style=style)
    return table


def _best(plan: Plan, best: Option) -> Iterator[Text | Padding]:
    rate = plan.asked.load.rate
    more = " at least" if best.is_at_least else ""
    above = f", {percent(best.fits_until / rate - 1.0)} above the load" if best.fits_until > rate else ""
    yield Text(f"{name_of(best)} fits until {rate_said(best.fits_until)} requests/s{more}{above}.", style="bold")
    memory = best.memory
    facts = Table.grid(padding=(0, 2))
    facts.add_row("binds", best.binding.said)
    if memory is not None:
        facts.add_row(
            "memory",
            f"weights {gb(memory.weight_bytes)} and KV cache {gb(memory.kv_bytes)} of the {gb(memory.gpu_bytes)} of a "
            f"GPU; {memory.kv_tokens:,} tokens a replica",
        )
    if best.price is not None:
        facts.add_row(
            "price", f"${best.price.usd_per_hour:.2f} a GPU-hour: {best.price.provider}, {best.price.date or 'no date'}"
        )
    for name, band in (("TPOT", best.trust.tpot), ("tokens/s", best.trust.throughput), ("TTFT", best.trust.ttft)):
        if band is not None:
            facts.add_row(name, _band(band))
    if not best.sure:
        low, rate = best.fits_until_low or 0.0, plan.asked.load.rate
        breaks = f"it fits {rate_said(low)} requests/s only" if low < rate else "the promise is broken, which is tight"
        more = "" if memory is None else "; `headway plan calibrate` narrows that"
        facts.add_row(Text("not sure", style="yellow"), f"if the model is off by its whole band, {breaks}{more}")
    for reason in best.trust.reasons:
        facts.add_row(Text("fragile", style="yellow"), reason)
    yield Padding(facts, (0, 0, 0, 2))


def _front(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("tok/s a user", "tok/s a GPU", "$/M out"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("replica", no_wrap=True)
    table.add_column("at once", justify="right", no_wrap=True)
    step = max(1, -(-len(plan.front) // FRONT_SHOWN))
    for point in plan.front[::step]:
        table.add_row(
            f"{point.user_tokens_per_s:,.0f}",
            f"{point.tokens_per_s_per_gpu:,.0f}",
            _usd(point.usd_per_million_output_tokens),
            f"{point.tp} x {point.gpu} {point.precision}",
            str(point.concurrency),
        )
    return table


def _rejected(plan: Plan, is_whole: bool) -> Group:
    """By reason; without ``is_whole`` names alone, and one reason of each kind."""
    table = Table.grid(padding=(0, 2))
    for why in Why:
        those = [each for each in plan.rejected if each.why is why]
        if not those:
            continue
        if is_whole:
            for each in those:
                table.add_row(f"{why}", f"{_name(each)}: {each.reason}")
            continue
        names = list(_names(those))
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        first = "" if why is Why.DEARER else f" ({_name(those[0])}: {those[0].reason})"
        table.add_row(f"{why}", f"{', '.join(names[:NAMES_SHOWN])}{more}{first}")
    hint = [] if is_whole else [Text("--all gives the reason of each.", style="dim")]
    return Group(Text("Left out", style="bold"), Padding(table, (0, 0, 0, 2)), *hint)


def _names(those: list[Rejected]) -> Iterator[str]:
    """Set-ups that differ in tensor parallelism alone are one."""
    sizes: dict[tuple[str, str], list[int]] = {}
    for each in those:
        sizes.setdefault((each.gpu, each.precision), []).append(each.tp)
    for (gpu, precision), tps in sizes.items():
        yield f"{gpu} {precision}" + (f" (TP {', '.join(map(str, tps))})" if tps != [1] else "")


def _name(each: Rejected) -> str:
    return f"{each.tp} x {each.gpu} {each.precision}"


def _sure(option: Option) -> str:
    if option.trust.level == "fragile":
        return "fragile"
    return "yes" if option.sure else "likely"


def _band(band: BandRecord) -> str:
    return f"90 % within {100 * band.low - 100:+.0f} to {100 * band.high - 100:+.0f} % of it ({band.source})"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def share(figure: Figure) -> str:
    return percent(figure.value, 1)


def _ms(figure: Figure | None) -> str:
    return "-" if figure is None else ms(figure.value)


def ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"


def gb(value: float) -> str:
    return f"{value / 1e9:,.1f} GB"
