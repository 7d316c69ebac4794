"""The planner against published measurements: a CSV of points, predicted from data sheets alone and scored.

Errors are (predicted - measured) / measured. ``headline``: dense models on engines of 2024 and later (an engine's year
is the one in its name, else 2023 for FasterTransformer and TGIS, else the year it was measured). ``other``: the rest.
TTFT is at low load with up to 8 requests at once; of closed loops with more than one user that don't say how many
requests they sent it is a figure of its own, since all users' first requests come at once. Rows that can't be predicted
are counted by reason. Figures: ``PART.FIGURE.NAME`` with n, median_abs, p90_abs and median_signed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.plan_calibrated import Outcome, Pair, all_others, two_points
from benchmarks.plan_held import banded, bands_toml, fit_bands, is_for_bands, left_out, widening
from benchmarks.plan_point import Point, Skipped
from benchmarks.plan_predict import Prediction, Predictor, Unpredictable
from benchmarks.plan_refit import Refit
from benchmarks.plan_rows import TableError, read_points
from benchmarks.plan_scores import Figure, Scored, by_figure, by_group, coverage, quantile
from headway.plan.bands import Group
from headway.plan.bands import Metric as BandMetric
from headway.plan.catalogue import gpus
from headway.plan.domain import groups, judge
from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu
from headway.plan.memory import memory
from headway.plan.standing import Band, Level

Value = float | int | str | None
MODERN_ENGINES = ("vllm", "vllm-2024", "sglang", "trtllm", "trtllm-2024")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--points", metavar="CSV", type=Path, help="published points, in the columns of plan_rows.py")
    parser.add_argument("--gpus", metavar="TOML", type=Path, help="GPUs of your own besides the catalogue's")
    parser.add_argument("--quick", action="store_true", help="without fitting constants again (minutes)")
    parser.add_argument(
        "--write-bands",
        metavar="TOML",
        type=Path,
        help="where the planner's bands.toml goes, made of residuals without each source",
    )
    parser.add_argument("--rows", metavar="CSV", type=Path, help="where every row goes, with its prediction or reason")


def run(arguments: argparse.Namespace) -> dict[str, Value]:
    if arguments.points is None:
        raise SystemExit("plan points: --points CSV says which published points to predict; none come with Headway")
    try:
        points, skipped = read_points(arguments.points)
        catalogue = dict(gpus(arguments.gpus))
    except (TableError, PlanError) as error:
        raise SystemExit(f"plan points: {error}") from None
    predictor = Predictor(catalogue)
    pairs, unpredicted = predict_all(points, predictor)
    skipped += unpredicted
    print(f"{len(pairs)} points predicted, {len(skipped)} rows skipped", file=sys.stderr)
    if arguments.rows is not None:
        arguments.rows.write_text(as_rows(pairs, skipped), encoding="utf-8")
    scored = [pair.scored for pair in pairs]
    headline = [each for each in scored if each.is_headline]
    figures: dict[str, Value] = {
        "rows": len(points) + len(skipped) - len(unpredicted),
        "predicted": len(scored),
        "skipped": len(skipped),
        **by_figure(headline, "headline"),
        **by_figure((each for each in headline if each.level is Level.SUPPORTED), "headline_supported"),
        **by_figure((each for each in headline if each.level is Level.FRAGILE), "headline_fragile"),
        **by_figure((each for each in scored if not each.is_headline), "other"),
        **_covered(scored, headline),
        **_calibrated([pair for pair in pairs if pair.scored.is_headline], predictor),
    }
    residuals = scored
    if not arguments.quick:
        refitted, without = _refitted(headline, catalogue)
        figures |= refitted
        residuals = _apart(scored, without)
    figures |= by_group(headline, "headline.source", lambda each: each.point.source)
    figures |= by_group(headline, "headline.gpu", lambda each: each.gpu)
    figures |= by_group(headline, "headline.engine", lambda each: each.point.engine)
    others = [each for each in scored if not each.is_headline]
    figures |= by_group(others, "other.source", lambda each: each.point.source)
    figures |= by_group(others, "other.kind", _kind_of_other)
    if arguments.write_bands is not None:
        arguments.write_bands.write_text(bands_toml(residuals, [each.value for each in Group]), encoding="utf-8")
    figures |= {f"skipped.{reason}": count for reason, count in Counter(each.reason for each in skipped).most_common()}
    return figures


def predict_all(points: Sequence[Point], predictor: Predictor) -> tuple[list[Pair], list[Skipped]]:
    pairs, skipped = [], []
    for point in points:
        try:
            made = predictor.predict(point)
            pairs.append(Pair(_scored(point, made), made))
        except Unpredictable as reason:
            skipped.append(Skipped(point.line, point.source, str(reason)))
    return pairs, skipped


def _scored(point: Point, made: Prediction) -> Scored:
    """Raises ``Unpredictable`` for what the planner doesn't support."""
    standing = judge(made.setup, point.max_step_tokens)
    if standing.level is Level.UNSUPPORTED:
        raise Unpredictable(f"not supported by the planner: {standing.reasons[0] if standing.reasons else 'no reason'}")
    room = memory(made.setup, point.max_step_tokens)
    scored = Scored(
        point=point,
        predicted=made.value,
        is_dense=made.setup.model.experts is None,
        level=standing.level,
        kind=groups(made.setup, room)[0],
    )
    bands: dict[BandMetric, Band | None] = {
        BandMetric.TPOT: standing.tpot,
        BandMetric.THROUGHPUT: standing.throughput,
        BandMetric.TTFT: standing.ttft,
    }
    band = bands[scored.banded_as] if scored.banded_as is not None else None
    return replace(scored, band=(band.low, band.high) if band else None)


def _kind_of_other(each: Scored) -> str:
    year = "2024 and later" if each.point.is_modern else "before 2024 or undated"
    return f"{'dense' if each.is_dense else 'mixture of experts'}, {year}"


def _covered(scored: Sequence[Scored], headline: Sequence[Scored]) -> dict[str, Value]:
    """Bands as they are stated; and made anew from all others, source by source and GPU by GPU."""
    whole = [each for each in scored if is_for_bands(each)]
    apart = {
        "stated": whole,
        "in_sample": banded(whole, fit_bands(whole, widening(whole))),
        "without_source": left_out(whole, lambda each: each.point.source),
        "without_gpu": left_out(whole, lambda each: each.gpu),
    }
    figures: dict[str, Value] = {}
    for name, each in apart.items():
        figures |= _flat(f"bands.{name}.all", coverage(each))
        figures |= _flat(f"bands.{name}.headline", coverage(one for one in each if one.is_headline))
        supported = [one for one in each if one.is_headline and one.level is Level.SUPPORTED]
        figures |= _flat(f"bands.{name}.headline_supported", coverage(supported))
        for metric in BandMetric:
            chosen = [one for one in each if one.is_headline and one.banded_as is metric]
            figures |= _flat(f"bands.{name}.headline.{metric}", coverage(chosen))
    if headline:
        tpot = [each.band for each in headline if each.band and each.figure == Figure.TPOT]
        figures["bands.stated.widest_tpot"] = round(max((high / low for low, high in tpot), default=0.0), 3)
    return figures


def _calibrated(pairs: Sequence[Pair], predictor: Predictor) -> dict[str, Value]:
    figures: dict[str, Value] = {}
    for name, outcome in (("two_points", two_points(pairs, predictor)), ("all_others", all_others(pairs, predictor))):
        figures[f"calibrated.{name}.fits"] = outcome.settings
        figures[f"calibrated.{name}.refused"] = outcome.refused
        figures |= by_figure(outcome.before, f"calibrated.{name}.before")
        figures |= by_figure(outcome.after, f"calibrated.{name}.after")
        figures |= _half_width(outcome, f"calibrated.{name}.half_width_90")
    return figures


def _half_width(outcome: Outcome, name: str) -> dict[str, Value]:
    """Half width in log space that holds 90 % of what calibrated predictions miss, where the planner supports the
    set-up: the band of a calibration."""
    logs = [abs(math.log(each.band_ratio)) for each in outcome.after if each.level is Level.SUPPORTED]
    return {name: round(quantile(logs, 0.9), 4)} if logs else {}


def _apart(scored: Sequence[Scored], without: Mapping[str, Sequence[Scored]]) -> list[Scored]:
    """The predictions that bands are made from: with constants found without the source. A group that one source alone
    has measured is then predicted with constants that nothing told, so there they are found without the GPU."""
    sources: dict[str, set[str]] = {}
    for each in scored:
        if is_for_bands(each):
            sources.setdefault(each.kind, set()).add(each.point.source)
    by_line = {name: {each.point.line: each for each in made} for name, made in without.items()}
    return [
        by_line["source" if len(sources.get(each.kind, ())) != 1 else "gpu"].get(each.point.line, each)
        for each in scored
    ]


def _refitted(
    headline: Sequence[Scored], catalogue: dict[str, Gpu]
) -> tuple[dict[str, Value], dict[str, list[Scored]]]:
    """With constants found without the source or GPU that they predict; and whether stated bands hold then, too.
    Second: those predictions, by what they were made without."""
    refit = Refit([each for each in headline if each.point.engine in MODERN_ENGINES], catalogue)
    figures: dict[str, Value] = {**by_figure(refit.unfitted(), "unfitted")}
    kept: dict[str, list[Scored]] = {}
    for name, key in (("source", lambda each: each.point.source), ("gpu", lambda each: each.gpu)):
        print(f"fitting constants again without each {name}", file=sys.stderr)
        apart = kept[name] = refit.left_out(key)
        figures |= by_figure(apart, f"refitted_without_{name}")
        supported = [each for each in apart if each.level is Level.SUPPORTED]
        figures |= by_figure(supported, f"refitted_without_{name}_supported")
        figures |= _flat(f"bands.stated.refitted_without_{name}", coverage(apart))
        figures |= by_group(apart, f"refitted_without_{name}.{name}", key)
    rates, constants = refit.fit(range(len(refit.scored)))
    figures["refitted.rates"] = str(rates)
    return figures | {f"refitted.{engine}": str(each) for engine, each in constants.items()}, kept


def _flat(prefix: str, figures: dict[str, float | int]) -> dict[str, Value]:
    return {f"{prefix}.{name}": value for name, value in figures.items()}


def as_rows(pairs: Sequence[Pair], skipped: Sequence[Skipped]) -> str:
    """CSV: line of the file, source, figure, measured, predicted, error, group; or the reason."""
    lines = ["line,source,figure,measured,predicted,error,kind,level,reason"]
    told = [(pair.scored.point.line, _row(pair.scored)) for pair in pairs]
    told += [(each.line, f'{each.line},"{each.source}",,,,,,,"{each.reason}"') for each in skipped]
    return "\n".join(lines + [row for _, row in sorted(told)]) + "\n"


def _row(each: Scored) -> str:
    point = each.point
    return (
        f'{point.line},"{point.source}",{each.figure},{point.value:.6g},{each.predicted:.6g},{each.error:.4f},'
        f"{each.kind},{each.level},"
    )
