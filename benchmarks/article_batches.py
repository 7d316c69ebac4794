"""Static batches with reserved memory against paged continuous batching: what the "24 times" is made of.

One model, one GPU, one engine's overheads (LLaMA-13B in fp16 on an A100 40 GB, launched kernel by kernel as in 2023);
only who runs beside whom differs. All requests are there from the start, as in vLLM's own offline benchmark. Five ways:

- ``static``: so many requests as fit when each reserves the model's longest sequence, padded to the longest prompt
  among them, until the longest answer ends. So did HF Transformers.
- ``reserved max``: continuous, each request reserves the longest sequence (Orca (Max) in the PagedAttention paper).
- ``reserved exact``: continuous, each reserves its prompt and just the answer that it will get (Orca (Oracle)): all
  that can be had without paging, and what TGI reserves if a client asks for as many tokens as come.
- ``reserved buddy``: the same in powers of two, as a buddy allocator hands memory out, which that paper gave its Orca.
- ``paged``: blocks are taken as they are needed, and given back by preemption (vLLM).

The continuous ones are Headway's own scheduler; reservation is its rule that nobody is ever preempted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from random import Random
from statistics import fmean

from benchmarks.article_case import Check, Scope, model_on
from headway.plan.memory import GB
from headway.plan.steady import decode_s
from headway.plan.steptime import GpuMachine
from headway.policy.plan import ExecutorInfo
from headway.policy.policies import VLLM_CONFIG, build
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.stepshape import StepShape
from headway.sim.result import Recorder, Window
from headway.sim.run import Simulation
from headway.sim.workload import Call, Size

MODEL, GPU, ENGINE = "llama-13b", "a100-40-sxm", "eager-2023"
LONGEST, LONGEST_PROMPT, SHORTEST = 2048, 1024, 4
"""vLLM's benchmark leaves out what is longer or shorter."""
MEAN_PROMPT, MEAN_ANSWER = 161.31, 337.99
"""Tokens in ShareGPT: figure 11 of Kwon et al., "Efficient Memory Management for Large Language Model Serving with
PagedAttention", SOSP 2023."""
PROMPT_SIGMA, ANSWER_SIGMAS = 1.2, (1.0, 0.7, 1.3)
"""Of the logarithm of lognormal lengths. The paper prints means only; the first is what is judged, the others show
what hangs on it."""
STEP_TOKENS = 2560
"""vLLM's first default."""
SMALLER_BATCHES = (4, 3, 2, 1)
"""Of the static way, for information: nobody published the batches that HF Transformers ran with."""
REQUESTS, QUICK_REQUESTS = 1000, 150
END_S = 1e6


@dataclass(frozen=True, slots=True)
class Served:
    """``seconds`` until all were served; ``batch``: mean number of requests that held memory, over that time."""

    seconds: float
    batch: float


def sharegpt_like(requests: int, answer_sigma: float, seed: int = 0) -> list[Size]:
    """Pairs of lengths with the published means and vLLM's limits."""
    medians = [MEAN_PROMPT / exp(PROMPT_SIGMA**2 / 2), MEAN_ANSWER / exp(answer_sigma**2 / 2)]
    for _ in range(20):  # what the limits cut off, the medians make up for
        drawn = _draw(requests, medians, answer_sigma, seed)
        medians[0] *= MEAN_PROMPT / fmean(size.prompt_tokens for size in drawn)
        medians[1] *= MEAN_ANSWER / fmean(size.output_tokens for size in drawn)
    return drawn


def _draw(requests: int, medians: Sequence[float], answer_sigma: float, seed: int) -> list[Size]:
    random = Random(f"{seed} sharegpt")
    drawn: list[Size] = []
    while len(drawn) < requests:
        prompt = round(random.lognormvariate(log(medians[0]), PROMPT_SIGMA))
        answer = round(random.lognormvariate(log(medians[1]), answer_sigma))
        if SHORTEST <= prompt <= LONGEST_PROMPT and answer >= SHORTEST and prompt + answer <= LONGEST:
            drawn.append(Size(prompt, answer))
    return drawn


def static(on: GpuMachine, sizes: Sequence[Size], batch: int) -> Served:
    """Batch after batch in order of arrival; every sequence is computed until the longest answer of its batch ends."""
    seconds = 0.0
    for first in range(0, len(sizes), batch):
        group = sizes[first : first + batch]
        prompt = max(size.prompt_tokens for size in group)
        answer = max(size.output_tokens for size in group)
        count = len(group)
        seconds += on.step_s(StepShape(count * prompt, count, 0, count * prompt * prompt / 2))
        seconds += (answer - 1) * decode_s(on, count, prompt + answer / 2)
    return Served(seconds, float(batch))


def exact(size: Size) -> int:
    return size.prompt_tokens + size.output_tokens


def buddy(size: Size) -> int:
    """The next power of two; no power of two of at least the exact length is above the longest."""
    return 1 << (exact(size) - 1).bit_length()


def longest(size: Size) -> int:
    return LONGEST


def continuous(
    on: GpuMachine, sizes: Sequence[Size], config: SchedulerConfig, asked: Callable[[Size], int] = exact
) -> Served:
    """``asked``: for how many tokens in all a request asks, whatever it gets."""

    def calls() -> Iterator[Call]:
        for index, size in enumerate(sizes):
            most = asked(size) - size.prompt_tokens
            yield Call(index=index, at_s=0.0, size=size, max_tokens=most, service_class="batch")

    def make(info: ExecutorInfo) -> Scheduler:
        return Scheduler(info, config, prefix_key=b"article", policy=build("prefill-first"))

    recorder = Recorder(Window(0.0, END_S), keep_gaps=False)
    simulation = Simulation(calls(), on, make, recorder, seed=0)
    simulation.run(END_S)
    records = recorder.result(simulation.now, simulation.steps).records
    ends_s = [record.e2e_s for record in records if record.e2e_s is not None]
    assert len(ends_s) == len(sizes), "a request was not served"
    stays_s = (record.e2e_s - record.ttft_s for record in records if record.e2e_s and record.ttft_s)
    return Served(max(ends_s), sum(stays_s) / max(ends_s))


def served(on: GpuMachine, sizes: Sequence[Size]) -> dict[str, Served]:
    paged = replace(VLLM_CONFIG, max_step_tokens=STEP_TOKENS, kv_watermark=0.01)
    reserved = replace(paged, kv_watermark=0.0, max_preemptions=0)
    return {
        "static": static(on, sizes, places(on)),
        "reserved max": continuous(on, sizes, reserved, longest),
        "reserved buddy": continuous(on, sizes, reserved, buddy),
        "reserved exact": continuous(on, sizes, reserved),
        "paged": continuous(on, sizes, paged),
    }


def places(on: GpuMachine) -> int:
    """How many sequences of the longest length the memory holds."""
    return on.memory.kv_tokens // LONGEST


def paging(scope: Scope) -> list[Check]:
    """vLLM has up to 24 times the throughput of "older systems like Hugging Face TGI"."""
    on = model_on(MODEL, GPU, scope.engine(ENGINE), step_tokens=STEP_TOKENS)
    checks = [
        Check(name="gb of kv cache", predicted=on.memory.kv_bytes / GB, published=12.0),
        Check(name="sequences with reserved maximum", predicted=places(on), published=7.0),
    ]
    for sigma in ANSWER_SIGMAS[: 1 if scope.quick or scope.by_hand else None]:
        sizes = sharegpt_like(QUICK_REQUESTS if scope.quick else REQUESTS, sigma)
        ways = served(on, sizes)
        judged = sigma == ANSWER_SIGMAS[0]
        suffix = "" if judged else f", sigma {sigma}"
        for name, way in ways.items():
            checks.append(Check(name=f"req/min {name}{suffix}", predicted=60 * len(sizes) / way.seconds))
            checks.append(Check(name=f"mean batch {name}{suffix}", predicted=way.batch))
        for name, low, high in (("static", 14.0, 24.0), ("reserved exact", 2.0, 3.5)):
            ratio = ways[name].seconds / ways["paged"].seconds
            band = {"low": low, "high": high} if judged else {}
            checks.append(Check(name=f"paged over {name}{suffix}", predicted=ratio, **band))
        for batch in SMALLER_BATCHES if judged else ():
            ratio = static(on, sizes, batch).seconds / ways["paged"].seconds
            checks.append(Check(name=f"paged over static batches of {batch}", predicted=ratio))
        for name, published in (("reserved max", 4.3), ("reserved buddy", 2.2)):
            ratio = ways[name].seconds / ways["paged"].seconds
            checks.append(Check(name=f"paged over {name}{suffix}", predicted=ratio))
            batches = ways["paged"].batch / ways[name].batch
            checks.append(Check(name=f"batch paged over {name}{suffix}", predicted=batches, published=published))
    return checks
