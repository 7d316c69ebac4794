"""A run of an inference engine as it was measured, request by request, and the figures that a simulation of it is
compared by.

The measured run that comes with it (``data/README.md``) is an overload: 300 requests in 29 s, for a GPU that takes
184 s over them. Times count from the first arrival.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil
from pathlib import Path
from statistics import fmean

from headway.sim.record import nearest_rank

DATA = Path(__file__).parent / "data"
RTX4090 = DATA / "vllm_rtx4090_llama31_8b.jsonl"
SAMPLE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request: when it arrived, and when its first and its last token came."""

    arrived_s: float
    first_s: float
    last_s: float
    prompt_tokens: int
    output_tokens: int

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.arrived_s

    @property
    def tpot_s(self) -> float:
        """Mean time between its tokens; the time that it was preempted for counts."""
        return (self.last_s - self.first_s) / max(self.output_tokens - 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What the engine said of itself. ``kv_blocks``: what its allocator can hand out; one block of vLLM's pool is a
    placeholder that nobody gets."""

    version: str
    kv_blocks: int
    block_tokens: int
    max_step_tokens: int
    max_running: int


@dataclass(frozen=True, slots=True)
class Run:
    """Requests in order of arrival."""

    served: tuple[Served, ...]

    @classmethod
    def read(cls, path: Path = RTX4090) -> Run:
        """A file of one JSON object a line, with times in seconds on one clock. ``queued_ts`` is when the engine's
        scheduler saw the request, so neither HTTP nor tokenising is part of any figure."""
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        start_s = min(row["queued_ts"] for row in rows)
        served = [
            Served(
                arrived_s=row["queued_ts"] - start_s,
                first_s=row["first_token_ts"] - start_s,
                last_s=row["last_token_ts"] - start_s,
                prompt_tokens=row["input_toks"],
                output_tokens=row["output_toks"],
            )
            for row in rows
        ]
        return cls(tuple(sorted(served, key=lambda each: each.arrived_s)))

    @property
    def duration_s(self) -> float:
        return max(each.last_s for each in self.served)

    @property
    def output_tokens(self) -> int:
        return sum(each.output_tokens for each in self.served)

    def batch(self, until_s: float) -> list[int]:
        """How many requests were between their first and their last token, every ``SAMPLE_S`` seconds."""
        steps = [0] * (ceil(until_s / SAMPLE_S) + 1)
        for each in self.served:
            steps[min(ceil(each.first_s / SAMPLE_S), len(steps) - 1)] += 1
            steps[min(ceil(each.last_s / SAMPLE_S), len(steps) - 1)] -= 1
        return list(accumulate(steps))[:-1]

    def figures(self) -> dict[str, float]:
        """Of all requests: times in seconds, the rate in tokens a second."""
        figures = {
            "duration_s": self.duration_s,
            "output_tok_s": self.output_tokens / self.duration_s,
            "batch_mean": fmean(self.batch(self.duration_s)),
        }
        for name, values in (
            ("ttft", [each.ttft_s for each in self.served]),
            ("tpot", [each.tpot_s for each in self.served]),
        ):
            figures[f"{name}_mean_s"] = fmean(values)
            ordered = sorted(values)
            figures |= {f"{name}_p{share}_s": nearest_rank(ordered, share / 100) for share in (50, 90, 99)}
        return figures


def read_engine(path: Path = RTX4090) -> Engine:
    """The file beside a run, as its authors' tool wrote it."""
    meta = json.loads(path.with_suffix(".meta.json").read_text(encoding="utf-8"))
    return Engine(
        version=meta["vllm_version"],
        kv_blocks=meta["kv_cache"]["num_gpu_blocks"] - 1,
        block_tokens=meta["kv_cache"]["block_size"],
        max_step_tokens=meta["scheduler"]["max_num_batched_tokens"],
        max_running=meta["scheduler"]["max_num_seqs"],
    )


def batch_error(simulated: Run, measured: Run) -> float:
    """Mean distance of the two numbers of running requests over time, as a share of the measured mean."""
    until_s = max(simulated.duration_s, measured.duration_s)
    ours, theirs = simulated.batch(until_s), measured.batch(until_s)
    return fmean(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / fmean(measured.batch(measured.duration_s))


def stretched(run: Run, duration_s: float) -> Run:
    """The same with all times but those of arrival scaled, so that it lasts ``duration_s``."""
    factor = duration_s / run.duration_s
    return Run(tuple(replace(each, first_s=factor * each.first_s, last_s=factor * each.last_s) for each in run.served))


def errors(simulated: Run, measured: Run) -> dict[str, float]:
    """Signed, relative to what was measured; for the batch over time its mean distance, which has no sign.
    ``batch_over_progress``: the same were the two runs equally long, so that what is left is who runs beside whom."""
    ours, theirs = simulated.figures(), measured.figures()
    signed = {name: ours[name] / value - 1.0 for name, value in theirs.items()}
    return {
        **signed,
        "batch_over_time": batch_error(simulated, measured),
        "batch_over_progress": batch_error(stretched(simulated, measured.duration_s), measured),
    }
