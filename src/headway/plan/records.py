"""From what a search works with to what is kept of it."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from headway.plan.domain import near_saturation
from headway.plan.load import Demand
from headway.plan.outcome import (
    Asked,
    BandRecord,
    Forecast,
    LoadRecord,
    MemoryRecord,
    ModelRecord,
    Option,
    PriceRecord,
    PromiseRecord,
    Trust,
)
from headway.plan.question import Question
from headway.plan.standing import Band, Standing
from headway.sim.record import nearest_rank

if TYPE_CHECKING:
    from headway.plan.predictor import Detailed

PARTS_SAID = {"ttft": "TTFT", "itl": "ITL", "e2e": "end to end"}


def load_record(demand: Demand) -> LoadRecord:
    calls = demand.sample()
    prompts = sorted(call.size.prompt_tokens for call in calls)
    outputs = sorted(call.size.output_tokens for call in calls)
    shares: dict[str, float] = {}
    for kind in demand.workload.traffic:
        shares[kind.service_class] = shares.get(kind.service_class, 0.0) + kind.share
    return LoadRecord(
        name=demand.name,
        description=demand.description,
        rate=demand.rate,
        prompt_tokens_mean=fmean(prompts),
        prompt_tokens_p95=nearest_rank([float(each) for each in prompts], 0.95),
        output_tokens_mean=fmean(outputs),
        output_tokens_p95=nearest_rank([float(each) for each in outputs], 0.95),
        shares_prefixes=any(call.size.prefix for call in calls),
        promises=tuple(
            PromiseRecord(
                service_class=name,
                share=shares[name],
                ttft_s=objective.ttft_s,
                itl_s=objective.itl_s,
                e2e_s=objective.e2e_s,
            )
            for name, objective in demand.promises.items()
        ),
        notes=demand.notes,
    )


def asked_record(question: Question) -> Asked:
    model, calibration = question.model, question.calibration
    return Asked(
        model=ModelRecord(
            name=model.name,
            parameters=model.parameters,
            active_parameters=model.active_parameters,
            context_tokens=model.context_tokens,
            source=model.source,
        ),
        load=load_record(question.demand),
        gpus=tuple(gpu.name for gpu in question.gpus),
        max_gpus=question.max_gpus,
        precisions=tuple(str(each) for each in question.precisions),
        engine=question.engine.name,
        policy=question.policy,
        router=question.router,
        target=question.target,
        seeds=question.seeds,
        requests=question.requests,
        calibration=f"{calibration.gpu} {calibration.date} {calibration.source}".strip() or None,
    )


def trust_record(standing: Standing) -> Trust:
    return Trust(
        level=str(standing.level),
        reasons=standing.reasons,
        tpot=_band(standing.tpot),
        throughput=_band(standing.throughput),
        ttft=_band(standing.ttft),
    )


def option_record(detailed: Detailed, question: Question) -> Option:
    candidate, forecast, rate = detailed.candidate, detailed.forecast, question.demand.rate
    setup, room, band = candidate.setup, candidate.memory, candidate.standing.throughput
    load_share = rate / detailed.replicas / candidate.bounds.rate_max
    gpus = setup.tp * detailed.replicas
    until = max(rate, detailed.capacity.value * detailed.replicas)
    price = setup.gpu.price
    usd = None if price is None else price.usd_per_hour * gpus
    return Option(
        gpu=setup.gpu.name,
        gpu_title=setup.gpu.title,
        tp=setup.tp,
        replicas=detailed.replicas,
        precision=str(setup.precision),
        kv_precision=str(setup.kv_precision),
        capacity=detailed.capacity,
        is_at_least=detailed.is_at_least,
        fits_until=until,
        fits_until_low=None if band is None else until * band.low,
        fits_until_high=None if band is None else until * band.high,
        sure=band is not None and until * band.low >= rate and detailed.keeps_slower,
        forecast=forecast,
        binding=detailed.binding,
        trust=trust_record(near_saturation(candidate.standing, load_share)),
        memory=MemoryRecord(
            gpu_bytes=setup.gpu.memory_bytes,
            weight_bytes=room.weights,
            activation_bytes=room.activations,
            other_bytes=room.other,
            kv_bytes=room.kv_bytes,
            kv_tokens=room.kv_tokens,
        ),
        points=detailed.points,
        price=None if price is None else PriceRecord(price.usd_per_hour, price.provider, price.date),
        usd_per_hour=usd,
        usd_per_million_output_tokens=_per_million(usd, forecast.tokens_per_s.value),
        usd_per_million_tokens=_per_million(usd, forecast.tokens_per_s.value + forecast.prompt_tokens_per_s),
        power_w=None if setup.gpu.power_w is None else setup.gpu.power_w * gpus,
    )


def name_of(option: Option) -> str:
    """GPUs in all, and how many of them share a replica: ``4 x h100-sxm tp2 bf16``."""
    split = f" tp{option.tp}" if option.tp > 1 else ""
    return f"{option.gpus} x {option.gpu}{split} {option.precision}".rstrip()


def ms(seconds: float) -> str:
    """As in "66.3 ms" and "4,610 ms"."""
    value = 1000 * seconds
    return f"{value:,.0f} ms" if value >= 100.0 else f"{value:.3g} ms"


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def rate_said(value: float) -> str:
    """Requests a second in three digits, whole ones from a thousand on."""
    return f"{value:,.0f}" if value >= 1000.0 else f"{value:.3g}"


def what_if_said(forecast: Forecast, gpus: int, needed: Option | None, most: str) -> str:
    """``gpus``: of the winner, which ``forecast`` is of. ``most``: the option that says how many there may be."""
    kept = f"{percent(forecast.attainment.value, 1)} in SLO"
    if forecast.is_beyond:
        kept = "queues would grow without end"
    if forecast.keeps:
        cheaper = needed is not None and needed.gpus < gpus
        less = f"; {name_of(needed)} would do" if cheaper and needed is not None else ""
        return f"Still kept ({kept}){less}."
    if needed is None:
        return f"Not kept ({kept}), nor by any number of the best set-ups within {most}."
    cost = "" if needed.usd_per_hour is None else f" at ${needed.usd_per_hour:,.2f} an hour"
    return f"Not kept ({kept}); it takes {name_of(needed)}{cost}."


def _band(band: Band | None) -> BandRecord | None:
    return None if band is None else BandRecord(band.low, band.high, band.source)


def _per_million(usd_per_hour: float | None, tokens_per_s: float) -> float | None:
    return None if usd_per_hour is None or tokens_per_s <= 0.0 else usd_per_hour / 3600 / tokens_per_s * 1e6
