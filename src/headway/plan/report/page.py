"""A plan as one page: the answer, what it costs, how sure it is, what else there is, and why not."""

from __future__ import annotations

from collections.abc import Sequence

from headway.bench.report.document import Card, Document
from headway.bench.report.sections import COLORS, Cell, Chart, Item, Paragraph, Row, Section, Table, Tone
from headway.bench.report.wording import NONE, duration, number, share
from headway.plan.outcome import MemoryRecord, Option, Plan, Rejected, WhatIf
from headway.plan.report.charts import attainment_over_rate, latency_over_rate, pareto
from headway.plan.report.wording import band, dollars, gigabytes, interval, option_name, seconds

PROMISED = (("ttft", "TTFT"), ("itl", "ITL"), ("e2e", "end to end"))
_TRUST: dict[str, Tone] = {"supported": "kept", "fragile": "undecided", "not supported": "missed"}


def plan_page(plan: Plan) -> str:
    """Offline and self-contained."""
    asked, best = plan.asked, plan.best
    found = [
        Section("The options", _options(plan), note="The cheapest first. Each keeps the promise at your load."),
        Section("Speed and cost", _there([pareto(plan), attainment_over_rate(plan)])),
        Section("As the load grows", _there([latency_over_rate(plan, "ttft"), latency_over_rate(plan, "itl")])),
        Section("The best option", [] if best is None else _details(plan, best)),
        Section("What if", _what_ifs(plan.what_ifs)),
        Section("How far to trust it", _trust(plan)),
        Section("What is no answer", _rejected(plan.rejected)),
        Section("How it was planned", [_how(plan)]),
    ]
    return Document(
        kind="plan",
        made_at=plan.made_at,
        title=f"{asked.model.name} at {number(asked.load.rate)} requests a second",
        note=_promise_line(plan),
        source=f"Schema {plan.schema}, headway {plan.headway}",
        headline=_headline(plan),
        details=_said(plan),
        tone=_tone(best),
        cards=[] if best is None else _cards(best),
        warnings=_notes(plan),
        sections=[each for each in found if each.items],
    ).html()


# ---- the answer ------------------------------------------------------------------------------------------------------


def _headline(plan: Plan) -> str:
    best = plan.best
    if best is None:
        return "Nothing that was considered keeps the promise"
    price = "" if best.usd_per_hour is None else f", {dollars(best.usd_per_hour)} an hour"
    return f"{option_name(best)} keeps the promise{price}"


def _tone(best: Option | None) -> Tone:
    if best is None:
        return "missed"
    return "kept" if best.sure and best.trust.level == "supported" else "undecided"


def _said(plan: Plan) -> list[str]:
    best = plan.best
    if best is None:
        return [] if plan.best_effort is None else [plan.best_effort]
    until = f"It fits until {number(best.fits_until)} requests a second"
    if best.fits_until_low is not None and best.fits_until_high is not None:
        until += f" ({number(best.fits_until_low)} to {number(best.fits_until_high)} with the model's error)"
    lines = [f"{until}. {_capital(best.binding.said)}."]
    if not best.sure:
        lines.append("If the model is off by its whole band, it may not keep it: measure before you buy.")
    return lines


def _notes(plan: Plan) -> list[str]:
    """Each once: what holds of the load is often said of the plan as well."""
    return list(dict.fromkeys(_capital(each).removesuffix(".") + "." for each in (*plan.notes, *plan.asked.load.notes)))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".")


def _cards(best: Option) -> list[Card]:
    forecast = best.forecast
    cards = [
        Card("In SLO", share(forecast.attainment.value), interval(forecast.attainment, is_share=True), "kept"),
        *(_costs(best) if best.memory is not None else ()),  # a machine of which step times alone are known has none
        Card("Fits until", f"{number(best.fits_until)}/s", f"{number(best.capacity.value)}/s a replica"),
    ]
    for each in forecast.classes:
        for part, words in PROMISED[:2]:
            figure = getattr(each, f"{part}_p95_s")
            if figure is not None:
                trusted = best.trust.ttft if part == "ttft" else best.trust.tpot
                cards.append(Card(f"p95 {words}, {each.service_class}", seconds(figure), f"band {band(trusted)}"))
    cards.append(
        Card("Output tokens a second", number(forecast.tokens_per_s.value), f"band {band(best.trust.throughput)}")
    )
    return cards


def _costs(best: Option) -> list[Card]:
    an_hour = "" if best.usd_per_hour is None else "/h"
    return [
        Card("Cost", f"{dollars(best.usd_per_hour)}{an_hour}", _price_source(best)),
        Card("A million output tokens", dollars(best.usd_per_million_output_tokens), "at your load"),
    ]


def _price_source(option: Option) -> str:
    price = option.price
    if price is None:
        return "give one with --price"
    when = "" if price.date is None else f", {price.date}"
    return f"{dollars(price.usd_per_hour)} a GPU: {price.provider}{when}"


def _promise_line(plan: Plan) -> str:
    load = plan.asked.load
    said = []
    for promise in load.promises:
        targets = [(words, getattr(promise, f"{part}_s")) for part, words in PROMISED]
        held = ", ".join(f"{words} {duration(target)}" for words, target in targets if target is not None)
        said.append(f"{promise.service_class} ({share(promise.share)}): {held or 'nothing promised'}")
    return (
        f"{load.description}: prompts of {number(load.prompt_tokens_mean)} tokens on average, answers of "
        f"{number(load.output_tokens_mean)}. p95 promised: {'; '.join(said)}."
    )


# ---- options ---------------------------------------------------------------------------------------------------------


def _options(plan: Plan) -> list[Item]:
    columns = ["Set-up", "Trust", "Binds", "$/h", "$/M out", "Fits until", "In SLO", "Tokens/s/GPU", "Tokens/s/user"]
    rows: list[Row] = [_option_row(each) for each in plan.options]
    return [Table(columns=columns, rows=rows, caption="Set-ups that keep the promise", text_columns=3)] if rows else []


def _option_row(option: Option) -> Row:
    forecast = option.forecast
    return [
        Cell(option_name(option), hint=f"{option.replicas} replica{'s' if option.replicas > 1 else ''}"),
        Cell(
            option.trust.level,
            _TRUST.get(option.trust.level, ""),
            hint="" if option.sure else "not over the whole band",
        ),
        Cell(option.binding.resource, hint=option.binding.promise or ""),
        dollars(option.usd_per_hour),
        dollars(option.usd_per_million_output_tokens),
        Cell(f"{number(option.fits_until)}/s", hint=_until_band(option)),
        Cell(share(forecast.attainment.value), hint=interval(forecast.attainment, is_share=True)),
        number(forecast.tokens_per_s.value / option.gpus),
        number(forecast.user_tokens_per_s),
    ]


def _until_band(option: Option) -> str:
    if option.fits_until_low is None or option.fits_until_high is None:
        return ""
    return f"{number(option.fits_until_low)} to {number(option.fits_until_high)}"


def _details(plan: Plan, option: Option) -> list[Item]:
    memory = [] if option.memory is None else [_memory(option.memory)]
    return [_classes(plan, option), *memory, _use(option)]


def _classes(plan: Plan, option: Option) -> Table:
    promises = {each.service_class: each for each in plan.asked.load.promises}
    rows: list[Row] = []
    notes = []
    for each in option.forecast.classes:
        notes.append(
            f"{each.service_class}: {share(each.attainment.value)} of {each.offered} requests in SLO, "
            f"{share(each.refused)} refused."
        )
        for part, words in PROMISED:
            p95 = getattr(each, f"{part}_p95_s")
            target = getattr(promises.get(each.service_class), f"{part}_s", None)
            rows.append(
                [
                    each.service_class,
                    words,
                    seconds(getattr(each, f"{part}_p50_s")),
                    Cell(seconds(p95), hint=interval(p95)),
                    seconds(getattr(each, f"{part}_p99_s")),
                    duration(target),
                ]
            )
    columns = ["Class", "", "p50", "p95", "p99", "Promised at p95"]
    return Table(columns=columns, rows=rows, caption="Latency by class", text_columns=2, note=" ".join(notes))


def _memory(held: MemoryRecord) -> Table:
    parts = [
        ("Weights", held.weight_bytes),
        ("KV cache", held.kv_bytes),
        ("Activations", held.activation_bytes),
        ("Other", held.other_bytes),
    ]
    rows: list[Row] = [
        [name, gigabytes(size), Cell("", bar=((size / held.gpu_bytes, color),))]
        for (name, size), color in zip(parts, COLORS, strict=False)
    ]
    note = (
        f"Of {gigabytes(held.gpu_bytes)} that one GPU has; a replica's KV cache holds {number(held.kv_tokens)} tokens."
    )
    return Table(columns=["Part", "Of one GPU", ""], rows=rows, caption="Memory", note=note)


def _use(option: Option) -> Table:
    use = option.forecast.usage
    rows: list[Row] = [
        ["Busy", share(use.busy), Cell("", bar=((use.busy, "a"),))],
        ["KV cache in use, mean", share(use.kv_mean), Cell("", bar=((use.kv_mean, "b"),))],
        ["KV cache in use, most", share(use.kv_peak), Cell("", bar=((use.kv_peak, "b"),))],
        ["Prompt tokens found in the cache", share(use.prefix_hits), Cell("", bar=((use.prefix_hits, "c"),))],
    ]
    rows += [[f"Of a step: {name}", share(part), Cell("", bar=((part, "d"),))] for name, part in use.parts.items()]
    note = (
        f"Batch {number(use.batch)} on average, {use.batch_peak} at most; {number(use.step_tokens)} tokens in a step."
    )
    return Table(columns=["Of one replica", "Share", ""], rows=rows, caption="Use", note=note)


# ---- the rest --------------------------------------------------------------------------------------------------------


def _what_ifs(what_ifs: Sequence[WhatIf]) -> list[Item]:
    rows: list[Row] = []
    for each in what_ifs:
        needed = each.needed
        rows.append(
            [
                each.asked,
                Cell("kept" if each.keeps else "broken", "kept" if each.keeps else "missed", hint=each.said),
                "nothing considered" if needed is None else option_name(needed),
                NONE if needed is None else dollars(needed.usd_per_hour),
            ]
        )
    columns = ["If", "The best option", "What it needs", "$/h"]
    return [Table(columns=columns, rows=rows, caption="Other loads and promises", text_columns=3)] if rows else []


def _trust(plan: Plan) -> list[Item]:
    rows: list[Row] = []
    for option in plan.options:
        trust = option.trust
        bands = (trust.ttft, trust.tpot, trust.throughput)
        sources = dict.fromkeys(each.source for each in bands if each is not None)
        rows.append(
            [
                option_name(option),
                Cell(trust.level, _TRUST.get(trust.level, ""), hint="; ".join(trust.reasons)),
                "; ".join(sources) or NONE,
                *(band(each) for each in bands),
            ]
        )
    if not rows:
        return []
    columns = ["Set-up", "Trust", "Where the band comes from", "TTFT", "TPOT", "Throughput"]
    note = (
        "A band is meant to hold 90 % of measured values, at low load. Near saturation queues multiply every error: "
        "look at the room that is left instead."
    )
    return [Table(columns=columns, rows=rows, caption="Error bands of the hardware model", text_columns=3, note=note)]


def _rejected(rejected: Sequence[Rejected]) -> list[Item]:
    rows: list[Row] = [
        [
            f"{each.gpu}, TP {each.tp}, {each.precision}",
            each.why.value,
            each.reason,
            NONE if each.gpus is None else str(each.gpus),
            NONE if each.usd_per_hour is None else dollars(each.usd_per_hour),
        ]
        for each in rejected
    ]
    columns = ["Set-up", "Why", "", "GPUs", "$/h"]
    return [Table(columns=columns, rows=rows, caption="Considered and left", text_columns=3)] if rows else []


def _how(plan: Plan) -> Paragraph:
    asked, cost = plan.asked, plan.cost
    basis = asked.calibration or "data sheets and published measurements alone, without a calibration"
    return Paragraph(
        f"The server's own scheduler (policy {asked.policy}, engine {asked.engine}) ran in virtual time over a model "
        f"of each GPU, {asked.requests} requests a run, {asked.seeds} seeds, replicas behind a {asked.router} router. "
        f"The hardware model rests on {basis}. {cost.considered} set-ups were considered and "
        f"{number(cost.simulated_requests)} requests simulated in {duration(cost.wall_s)}."
    )


def _there(charts: Sequence[Chart | None]) -> list[Item]:
    return [each for each in charts if each is not None]
