"""A predictor that knows what each machine serves, and answers at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headway.plan.bounds import Bounds
from headway.plan.candidate import Candidate, rejected
from headway.plan.catalogue import find_gpu, gpus
from headway.plan.engines import find_engine
from headway.plan.known_models import find_model
from headway.plan.load import read_demand
from headway.plan.memory import Memory
from headway.plan.outcome import Binding, ClassForecast, Figure, Forecast, Point, Rejected, Usage, Why
from headway.plan.precision import Precision
from headway.plan.predictor import Detailed, Sized
from headway.plan.question import Question, change_of, classes_of
from headway.plan.setup import Setup
from headway.plan.standing import Band, Level, Standing

BAND = Band(0.8, 1.25, "made up")


def question(
    *names: str,
    rate: float = 20.0,
    what_if: tuple[str, ...] = (),
    max_gpus: int = 16,
    prices: Mapping[str, float] | None = None,
    model: str = "llama-3.1-8b",
) -> Question:
    catalogue = gpus()
    shape = find_model(model)
    classes, promised = classes_of(("conversational:ttft=300,itl=100",))
    found = [find_gpu(name, catalogue) for name in names]
    if prices is not None:
        found = [
            replace(gpu, prices=(replace(gpu.prices[0], usd_per_hour=prices[gpu.name]),) if gpu.name in prices else ())
            for gpu in found
        ]
    return Question(
        model=shape,
        demand=read_demand(
            "synthetic", rate=rate, cv=None, classes=classes, promised=promised, context=shape.context_tokens
        ),
        gpus=tuple(found),
        engine=find_engine("headway"),
        policy="headway",
        max_gpus=max_gpus,
        precisions=(Precision.BF16,),
        tensor_parallel=(1,),
        changes=tuple(change_of(text) for text in what_if),
        catalogue=tuple(catalogue.values()),
    )


@dataclass
class Fake:
    """``serves``: requests a second by GPU; 0: too slow at any load; absent: it does not fit. The closed bound is
    ``optimism`` times what it serves. ``fragile``: GPUs of which something was not measured."""

    question: Question
    serves: Mapping[str, float]
    optimism: float = 1.2
    fragile: frozenset[str] = frozenset()
    sized: list[str] = field(default_factory=list)

    def screen(self, setup: Setup) -> Candidate | Rejected:
        name = setup.gpu.name
        if name not in self.serves:
            return rejected(setup, Why.NO_MEMORY, "too big")
        if not self.serves[name]:
            return rejected(setup, Why.TOO_SLOW, "TTFT is 400 ms", broken=("ttft", 0.4))
        rate = self.serves[name] * self.optimism
        candidate = Candidate(
            setup=setup,
            memory=Memory(total=8e10, weights=16e9, activations=1e9, other=1e9, kv_bytes=6e10, kv_tokens=480_000),
            standing=Standing(
                level=Level.FRAGILE if name in self.fragile else Level.SUPPORTED, tpot=BAND, throughput=BAND, ttft=BAND
            ),
            bounds=Bounds(rate_max=rate, batch=64, lives=((rate, 4.0),), ttft_s=0.05, itl_s=0.01, e2e_s=2.0, broken=()),
        )
        least = candidate.bounds.replicas_at_least(self.question.demand.rate)
        if least * setup.tp > self.question.max_gpus:
            return rejected(setup, Why.TOO_MANY, "too many", least)
        return candidate

    def size(self, candidate: Candidate) -> Sized | Rejected:
        name = candidate.setup.gpu.name
        self.sized.append(name)
        replicas = math.ceil(self.question.demand.rate / self.serves[name])
        if replicas * candidate.setup.tp > self.question.max_gpus:
            return rejected(candidate.setup, Why.TOO_MANY, "not within --max-gpus")
        return Sized(candidate=candidate, replicas=replicas, tried={}, simulated=100)

    def detail(self, sized: Sized, *, finds_capacity: bool) -> Detailed | Rejected:
        candidate = sized.candidate
        serves = self.serves[candidate.setup.gpu.name]
        return Detailed(
            candidate=candidate,
            replicas=sized.replicas,
            forecast=self.forecast(candidate, sized.replicas),
            capacity=Figure(serves if finds_capacity else self.question.demand.rate / sized.replicas),
            is_at_least=not finds_capacity,
            binding=Binding(resource="prefill compute", promise="ttft", said="prefill compute"),
            points=(
                Point(
                    rate=serves,
                    attainment=0.95,
                    keeps=True,
                    tokens_per_s_per_gpu=1000.0,
                    user_tokens_per_s=50.0,
                    ttft_p95_s=0.2,
                    itl_p95_s=0.05,
                ),
            ),
            simulated=200,
        )

    def forecast(self, candidate: Candidate, replicas: int) -> Forecast:
        rate = self.question.demand.rate
        kept = min(1.0, 0.95 * self.serves[candidate.setup.gpu.name] * replicas / rate)
        attained = Figure(kept, max(0.0, kept - 0.01), min(1.0, kept + 0.01))
        return Forecast(
            rate=rate,
            replicas=replicas,
            keeps=kept >= 0.95,
            attainment=attained,
            classes=(
                ClassForecast(
                    service_class="conversational",
                    offered=600,
                    attainment=attained,
                    refused=0.0,
                    ttft_p95_s=Figure(0.2, 0.18, 0.22),
                    itl_p95_s=Figure(0.05),
                    e2e_p95_s=Figure(8.0),
                ),
            ),
            tokens_per_s=Figure(rate * 128),
            prompt_tokens_per_s=rate * 128,
            user_tokens_per_s=40.0,
            usage=Usage(
                busy=0.9,
                batch=50.0,
                batch_peak=80,
                step_tokens=300.0,
                kv_mean=0.2,
                kv_peak=0.3,
                prefix_hits=0.0,
                parts={"computing tokens": 0.7, "reading weights": 0.3},
            ),
        )
