"""The report of a search: curve, steps, comparison and configurations, before the figures of ``bench``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headway.bench.record import Record
from headway.bench.report.html import page
from headway.bench.report.sections import Axis, Cell, Chart, Code, Item, Mark, Paragraph, Section, Series, Table, Tone
from headway.bench.report.standing import Standing, Verdict
from headway.bench.report.wording import between, duration, number, share
from headway.tune.observation import FAILURES, SHARES
from headway.tune.probe import Found
from headway.tune.result import Answer, Compared, PartSeen, Stage, StepTaken, Tuned
from headway.tune.saturation import THROUGHPUT
from headway.tune.show import WORDS
from headway.tune.wording import load_name, part_name, part_value

ENGINE_NAMES = {"headway": "Headway", "vllm": "vLLM", "sglang": "SGLang", "tgi": "TGI", "llama.cpp": "llama.cpp"}
_TONES: dict[str, Tone] = {"pass": "kept", "fail": "missed", "undecided": "undecided", "void": "muted"}
_STANDINGS = {
    Found.POINT: Standing.KEPT,
    Found.OPEN: Standing.KEPT,
    Found.UNDECIDED: Standing.UNDECIDED,
    Found.NONE: Standing.MISSED,
    Found.CLIENT: Standing.UNDECIDED,
    Found.SERVER: Standing.KEPT,
    Found.CUT: Standing.UNDECIDED,
}


def tune_page(tuned: Tuned, records: Mapping[int, Sequence[Record]] | None) -> str:
    return page(
        tuned.run,
        records,
        extra=sections(tuned),
        verdict_said=verdict(tuned),
        chosen=level_shown(tuned),
        chosen_why="the operating point, or the largest measured below it",
        curves=_levels_of_one_setting(tuned),
    )


def _levels_of_one_setting(tuned: Tuned) -> list[int]:
    """The levels that make curves: of the batch that was found, and of the rate. Those with other tokens in a step, and
    those of the comparison, would be joined with them as if of one server."""
    rate = [step.level for step in tuned.steps if step.stage == "rate" and step.void is None]
    return sorted([*(step.level for step in last_seen(tuned)), *rate])


def level_shown(tuned: Tuned) -> int | None:
    """The number of the level at the point or, where that is an estimate, at the largest batch below it."""
    point = tuned.batch.load if tuned.batch is not None else None
    steps = [step for step in last_seen(tuned) if point is not None and step.load <= point]
    return steps[-1].level if steps else None


def verdict(tuned: Tuned) -> Verdict:
    if tuned.batch is None:
        return Verdict(Standing.VOID, "Nothing was found", (tuned.reason or "",))
    details = [each for each in (_rate_said(tuned.rate), _binding_said(tuned), _margin_said(tuned.batch)) if each]
    if tuned.state != "complete":
        details.append(f"Not complete: {tuned.reason}.")
    headline = tuned.batch.sentence[:1].upper() + tuned.batch.sentence[1:]
    standing = Standing.NO_PROMISE if tuned.batch.part == THROUGHPUT else _STANDINGS[Found(tuned.batch.found)]
    return Verdict(standing, headline, tuple(details))


def _rate_said(rate: Answer | None) -> str:
    return "" if rate is None else f"In an open loop: {rate.sentence}."


def _binding_said(tuned: Tuned) -> str:
    return f"What binds is {tuned.binding['resource']}: {tuned.binding['why']}." if tuned.binding else ""


def _margin_said(batch: Answer) -> str:
    known = {part: margin for part, margin in batch.margin.items() if part not in SHARES}
    if not known:
        return ""
    said = [
        f"{part_name(part)} {share(abs(margin))} {'below' if margin >= 0 else 'above'}"
        for part, margin in known.items()
    ]
    return f"At the point, against the targets: {', '.join(said)}."


def sections(tuned: Tuned) -> list[Section]:
    curves: list[Item] = [chart for part in _parts(tuned) if (chart := _curve(tuned, part)) is not None]
    found = [Section("The curve", curves, note="p95 over the batch; bars are 95 % intervals.")]
    found.append(Section("The search", [_steps(tuned, stage) for stage in _stages(tuned)], note=tuned.how))
    if tuned.compared:
        note = (
            "The same rate for all, coming as it comes, measured in the same stretch of time. A static batch stays; "
            "the adaptive policy sizes each step."
        )
        found.append(Section("Adaptive beside static", [_comparison(tuned.compared)], note=note))
    codes: list[Item] = [Code(title=ENGINE_NAMES.get(name, name), text=text) for name, text in tuned.configs.items()]
    if codes:
        caution = Paragraph(
            "Measured on one server; for another engine it is where to start, not where to end.", "muted"
        )
        found.append(Section("Ready configurations", [*codes, caution]))
    return [section for section in found if section.items]


def _parts(tuned: Tuned) -> list[str]:
    return list(dict.fromkeys(part for step in last_seen(tuned) for part in step.parts if part not in SHARES))


def last_seen(tuned: Tuned) -> list[StepTaken]:
    """The last word on each batch, ascending; of several searches, that with the tokens in a step that were chosen."""
    steps = [step for step in tuned.steps if step.stage == "batch" and step.void is None]
    tokens = tuned.tokens if tuned.tokens is not None or not steps else steps[-1].tokens
    latest = {step.load: step for step in steps if step.tokens == tokens}
    return [latest[load] for load in sorted(latest)]


def _curve(tuned: Tuned, part: str) -> Chart | None:
    steps = [step for step in last_seen(tuned) if part in step.parts]
    if not steps:
        return None
    seen = [step.parts[part] for step in steps]
    loads = [step.load for step in steps]
    point = tuned.batch.load if tuned.batch is not None else None
    target = seen[0].target
    curve = Series(
        label=f"p95 {part_name(part)}",
        style="points",
        values=[each.value for each in seen],
        low=[each.low or None for each in seen],
        high=[each.high for each in seen],
        names=[f"{load:g}" for load in loads],
        star=loads.index(point) if point in loads else None,
    )
    marks = [Mark(axis="y", value=target, label=f"target {duration(target)}")]
    if point is not None:
        marks.append(Mark(axis="x", value=point, label=f"point {point:g}", color="kept"))
    return Chart(
        title=f"{part_name(part)} over the batch",
        x=Axis(label="requests at once", unit="number", log=True),
        y=Axis(label=f"p95 {part_name(part)}", unit="s", log=True),
        x_values=loads,
        series=[curve],
        marks=marks,
        sync="tune",
        pass_below=target,
    )


def _stages(tuned: Tuned) -> list[Stage]:
    return list(dict.fromkeys(step.stage for step in tuned.steps))


_TITLES: dict[Stage, str] = {"batch": "Batch", "tokens": "Tokens in a step", "rate": "Rate", "compare": "Comparison"}


def _steps(tuned: Tuned, stage: Stage) -> Table:
    steps = [step for step in tuned.steps if step.stage == stage]
    parts = list(
        dict.fromkeys(part for step in steps for part, seen in step.parts.items() if _is_worth_saying(part, seen))
    )
    return Table(
        columns=[_TITLES[stage], "Verdict", *(part_name(part) for part in parts), "Tokens/s", "n"],
        rows=[_row(step, parts) for step in steps],
        caption=f"{_TITLES[stage]}: {len(steps)} probes",
        text_columns=2,
    )


def _is_worth_saying(part: str, seen: PartSeen) -> bool:
    return part != FAILURES or bool(seen.value)


def _row(step: StepTaken, parts: Sequence[str]) -> list[str | Cell]:
    skipped = f"; left out: {', '.join(f'{load:.4g}' for load in step.skipped)}" if step.skipped else ""
    tokens = f"{step.tokens} tokens a step; " if step.tokens is not None and step.stage != "tokens" else ""
    cells: list[str | Cell] = [Cell(load_name(step.stage, step.load), hint=tokens + step.why + skipped)]
    cells.append(Cell(WORDS_BY_NAME[step.verdict], _TONES[step.verdict], hint=step.void or ""))
    for part in parts:
        seen = step.parts.get(part)
        if seen is None:
            cells.append("")
            continue
        low, high = part_value(part, seen.low), part_value(part, seen.high)
        cells.append(Cell(part_value(part, seen.value), hint=f"95 % interval {between(low, high)}"))
    if step.void is not None:
        return [*cells, "", ""]
    return [*cells, number(step.throughput), str(step.samples)]


WORDS_BY_NAME = {verdict.value: word for verdict, word in WORDS.items()}


def _comparison(compared: Sequence[Compared]) -> Table:
    rows: list[list[str | Cell]] = []
    for each in compared:
        low, high = share(each.attainment_low), share(each.attainment_high)
        rows.append(
            [
                Cell(each.setting, "" if each.is_adaptive else "muted"),
                number(each.rate),
                Cell(share(each.attainment), hint=f"95 % interval {between(low, high)}"),
                number(each.goodput),
                number(each.throughput),
                duration(each.ttft_p95_s),
                duration(each.itl_p95_s),
            ]
        )
    columns = ["Setting", "Requests/s", "In SLO", "Goodput/s", "Tokens/s", "p95 TTFT", "p95 ITL"]
    return Table(columns=columns, rows=rows)
