"""A plan made by hand, for what shows plans."""

from __future__ import annotations

from dataclasses import dataclass

from headway.plan.outcome import (
    Asked,
    BandRecord,
    Binding,
    ClassForecast,
    Cost,
    Figure,
    Forecast,
    FrontPoint,
    LoadRecord,
    MemoryRecord,
    ModelRecord,
    Option,
    Plan,
    Point,
    PriceRecord,
    PromiseRecord,
    Rejected,
    Trust,
    Usage,
    WhatIf,
    Why,
)

LOAD = LoadRecord(
    name="azure-conv",
    description="Azure's conversation trace of 2023",
    rate=20.0,
    prompt_tokens_mean=1154.7,
    prompt_tokens_p95=2734.0,
    output_tokens_mean=211.1,
    output_tokens_p95=424.0,
    shares_prefixes=False,
    promises=(PromiseRecord(service_class="conversational", share=1.0, ttft_s=0.3, itl_s=0.1),),
)


@dataclass(frozen=True)
class Machine:
    gpu: str
    title: str
    replicas: int
    capacity: float
    usd: float | None
    sure: bool = True
    level: str = "supported"


def made_option(machine: Machine) -> Option:
    rate = LOAD.rate / machine.replicas
    points = tuple(
        Point(
            rate=machine.capacity * share,
            attainment=1.0 - max(0.0, share - 0.8) ** 2,
            keeps=share <= 1.0,
            tokens_per_s_per_gpu=211 * machine.capacity * share,
            user_tokens_per_s=120.0 / (0.5 + share),
            ttft_p95_s=0.1 + 0.2 * share**3,
            itl_p95_s=0.01 * (0.5 + share),
        )
        for share in (0.25, 0.5, 0.75, 1.0, 1.25)
    )
    a_class = ClassForecast(
        service_class="conversational",
        offered=4000,
        attainment=Figure(0.978, 0.971, 0.985),
        refused=0.004,
        ttft_p50_s=Figure(0.11, 0.1, 0.12),
        ttft_p95_s=Figure(0.263, 0.251, 0.275),
        ttft_p99_s=Figure(0.33),
        itl_p50_s=Figure(0.011),
        itl_p95_s=Figure(0.019, 0.018, 0.02),
        itl_p99_s=Figure(0.04),
        e2e_p50_s=Figure(2.5),
        e2e_p95_s=Figure(5.6),
        e2e_p99_s=Figure(7.1),
    )
    forecast = Forecast(
        rate=LOAD.rate,
        replicas=machine.replicas,
        keeps=True,
        attainment=Figure(0.978, 0.971, 0.985),
        classes=(a_class,),
        tokens_per_s=Figure(4222.0, 4180.0, 4260.0),
        prompt_tokens_per_s=23_000.0,
        user_tokens_per_s=88.0,
        usage=Usage(
            busy=0.81,
            batch=18.2,
            batch_peak=61,
            step_tokens=140.0,
            kv_mean=0.12,
            kv_peak=0.4,
            prefix_hits=0.0,
            parts={"weights": 0.5, "attention": 0.2, "prefill": 0.2, "overhead": 0.1},
        ),
    )
    per_hour = None if machine.usd is None else machine.usd * machine.replicas
    band = BandRecord(0.86, 1.18, "measured points of dense models on NVLink, n 214")
    return Option(
        gpu=machine.gpu,
        gpu_title=machine.title,
        tp=1,
        replicas=machine.replicas,
        precision="bf16",
        kv_precision="bf16",
        capacity=Figure(machine.capacity, machine.capacity * 0.97, machine.capacity * 1.02),
        fits_until=machine.capacity * machine.replicas,
        fits_until_low=machine.capacity * machine.replicas * 0.86,
        fits_until_high=machine.capacity * machine.replicas * 1.12,
        sure=machine.sure,
        forecast=forecast,
        binding=Binding(
            resource="prefill compute",
            promise="ttft",
            said=f"Prefill binds: at {rate:.3g} requests a second a replica, first tokens come late first.",
        ),
        trust=Trust(
            level=machine.level,
            reasons=() if machine.level == "supported" else ("nobody has measured its matrix products",),
            tpot=band,
            throughput=band,
            ttft=BandRecord(0.8, 1.3, "measured points of dense models on NVLink, n 71"),
        ),
        memory=MemoryRecord(
            gpu_bytes=80e9,
            weight_bytes=16.1e9,
            activation_bytes=2.2e9,
            other_bytes=1.5e9,
            kv_bytes=52e9,
            kv_tokens=396_000,
        ),
        points=points,
        price=None if machine.usd is None else PriceRecord(machine.usd, "a cloud", "2026-08"),
        usd_per_hour=per_hour,
        usd_per_million_output_tokens=None if per_hour is None else per_hour / 3600 / 4222 * 1e6,
    )


MACHINES = (
    Machine("h100-sxm", "NVIDIA H100 80GB SXM", 2, 11.5, 2.95),
    Machine("h200-sxm", "NVIDIA H200 141GB SXM", 2, 12.5, 3.5),
    Machine("a100-80-sxm", "NVIDIA A100 80GB SXM", 5, 4.2, 3.67, sure=False),
    Machine("l40s", "NVIDIA L40S 48GB", 9, 2.3, None, level="fragile"),
)


def made_plan(machines: tuple[Machine, ...] = MACHINES, *, best_effort: str | None = None) -> Plan:
    options = tuple(map(made_option, machines))
    needed = options[0] if options else None
    return Plan(
        headway="0.1.0",
        made_at="2026-11-24T18:00:00Z",
        asked=Asked(
            model=ModelRecord(name="llama-3.1-8b", parameters=8.03e9, active_parameters=8.03e9, context_tokens=131_072),
            load=LOAD,
            gpus=tuple(each.gpu for each in machines),
            max_gpus=16,
            precisions=("bf16",),
            engine="headway",
            policy="headway",
            router="least-ttft",
            target=0.95,
            seeds=3,
            requests=4000,
        ),
        options=options,
        front=tuple(
            FrontPoint(
                gpu=each.gpu,
                tp=each.tp,
                precision=each.precision,
                rate=point.rate,
                tokens_per_s_per_gpu=point.tokens_per_s_per_gpu,
                user_tokens_per_s=point.user_tokens_per_s,
                usd_per_million_output_tokens=None,
            )
            for each in options[:1]
            for point in each.points[:4]
        ),
        rejected=(
            Rejected(
                gpu="t4",
                gpu_title="NVIDIA T4 16GB",
                tp=1,
                precision="bf16",
                why=Why.NO_MEMORY,
                reason="weights of 16.1 GB and 15.0 GB usable; TP 2 would hold them",
                gpus=2,
            ),
        ),
        what_ifs=(
            WhatIf(
                asked="rate=2x",
                load=LOAD,
                winner=None if needed is None else needed.forecast,
                keeps=False,
                needed=needed,
                said="At 40 requests a second 61 % would be in SLO.",
            ),
        ),
        best_effort=best_effort,
        notes=("Prices are of 2026-08: give yours with --price.",),
        cost=Cost(wall_s=31.0, cpu_s=58.0, processes=2, considered=42, simulated_requests=214_000),
    )
