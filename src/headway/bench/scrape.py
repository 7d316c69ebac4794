"""A server's own numbers during a run, from its ``/metrics`` in Prometheus' text format.

running, waiting                   requests (of TGI and llama.cpp: slots in use, and requests without one)
kv_usage                           share of the KV cache in use, 0 to 1
prompt_rate, generation_rate       tokens a second since the scrape before; TGI counts them when a request ends
preemptions, shed                  since the first scrape
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from headway.bench.ask import ask
from headway.bench.figures import Scraped
from headway.bench.target import Target

INTERVAL_S = 1.0
TIMEOUT_S = 2.0
SCRAPES_MAX = 3600
"""Of one run: then every second one is dropped, and the interval doubled."""

SHARES = frozenset({"kv_usage"})
RATES = frozenset({"prompt_rate", "generation_rate"})
COUNTS = frozenset({"preemptions", "shed"})


@dataclass(frozen=True, slots=True)
class Source:
    """A metric, and, where not all of its samples are meant, labels of which they have one."""

    name: str
    labels: tuple[str, ...] = ()

    def has(self, labels: str) -> bool:
        return not self.labels or any(each in labels for each in self.labels)


def _sources(*names: str) -> tuple[Source, ...]:
    return tuple(Source(name, tuple(labels)) for name, *labels in (each.split("|") for each in names))


ENGINES: dict[str, dict[str, tuple[Source, ...]]] = {
    "headway": {
        "running": _sources("headway_requests_running"),
        "waiting": _sources("headway_requests_waiting"),
        "kv_usage": _sources("headway_kv_usage_ratio"),
        "prompt_rate": _sources("headway_prompt_tokens_total"),
        "generation_rate": _sources("headway_output_tokens_total"),
        "preemptions": _sources("headway_preemptions_total"),
        "shed": _sources('headway_denied_choices_total|fate="refused"|fate="shed"'),
    },
    "vllm": {
        "running": _sources("vllm:num_requests_running"),
        "waiting": _sources("vllm:num_requests_waiting"),
        "kv_usage": _sources("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "prompt_rate": _sources("vllm:prompt_tokens_total"),
        "generation_rate": _sources("vllm:generation_tokens_total"),
        "preemptions": _sources("vllm:num_preemptions_total"),
    },
    "sglang": {
        "running": _sources("sglang:num_running_reqs"),
        "waiting": _sources("sglang:num_queue_reqs"),
        "kv_usage": _sources("sglang:token_usage"),
        "prompt_rate": _sources('sglang:realtime_tokens_total|mode="prefill_compute"', "sglang:prompt_tokens_total"),
        "generation_rate": _sources('sglang:realtime_tokens_total|mode="decode"', "sglang:generation_tokens_total"),
        "preemptions": _sources("sglang:num_retracted_requests_total"),
    },
    "tgi": {
        "running": _sources("tgi_batch_current_size"),
        "waiting": _sources("tgi_queue_size"),
        "prompt_rate": _sources("tgi_request_input_length_sum"),
        "generation_rate": _sources("tgi_request_generated_tokens_sum"),
    },
    "llama.cpp": {
        "running": _sources("llamacpp:requests_processing"),
        "waiting": _sources("llamacpp:requests_deferred"),
        "kv_usage": _sources("llamacpp:kv_cache_usage_ratio"),
        "prompt_rate": _sources("llamacpp:prompt_tokens_total"),
        "generation_rate": _sources("llamacpp:tokens_predicted_total"),
    },
}
"""Where each series is, by engine; of several sources the first that is there. Headway is first: it has vLLM's names
too. Left out: what an engine doesn't say. (llama.cpp no longer has its KV usage; older ones do.)"""

_PREFIXES = {"headway": "headway_", "vllm": "vllm:", "sglang": "sglang:", "tgi": "tgi_", "llama.cpp": "llamacpp:"}
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)?\s*")
_ONE_PRIORITY = re.compile(r'(?:^|,)priority="[^"]')
"""SGLang gives the total with priority="", and each priority again."""


def engine_of(text: str) -> str | None:
    """Whose metrics these are."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = (name for name, prefix in _PREFIXES.items() if any(line.startswith(prefix) for line in lines))
    return next(found, None)


def parse(text: str, engine: str) -> dict[str, float]:
    """The values of the series that are there: sums over labels; for shares the highest, since the fullest one binds.
    Lines that are no samples are passed over, and so is what is not a number."""
    series = ENGINES[engine]
    wanted = {source.name for sources in series.values() for source in sources}
    samples: dict[str, list[tuple[str, float]]] = {}
    for line in text.splitlines():
        if line.startswith("#") or re.split(r"[{\s]", line, maxsplit=1)[0] not in wanted:
            continue
        match = _SAMPLE.fullmatch(line)
        value = _number(match[3]) if match else None
        if match and value is not None and not _ONE_PRIORITY.search(match[2] or ""):
            samples.setdefault(match[1], []).append((match[2] or "", value))
    found = {}
    for name, sources in series.items():
        for source in sources:
            values = [value for labels, value in samples.get(source.name, ()) if source.has(labels)]
            if values:
                found[name] = max(values) if name in SHARES else math.fsum(values)
                break
            if samples and source.labels and name in COUNTS:
                found[name] = 0.0  # there is no sample with a label before the first time
    return found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(slots=True)
class Scraper:
    """Scrapes in a thread while ``running`` is entered; afterwards ``result``. A failed scrape is a gap, not an error.

    ``clock``: seconds of the run, as in its records. ``engine``: None: told from the first scrape.
    """

    target: Target
    engine: str | None
    clock: Callable[[], float]
    interval_s: float = INTERVAL_S
    timeout_s: float = TIMEOUT_S
    scrapes_max: int = SCRAPES_MAX
    cpu_s: float = 0.0
    """Processor time that it took."""
    _points: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        due_s = self.clock()
        while True:
            at_s = self.clock()
            self.add(at_s, await asyncio.to_thread(self.scrape))
            due_s = max(due_s + self.interval_s, self.clock())
            await asyncio.sleep(due_s - self.clock())

    def scrape(self) -> dict[str, float]:
        """One scrape; empty if there was none. Blocks."""
        started_s = time.thread_time()
        try:
            status, body = ask(self.target, f"{self.target.root}/metrics", timeout_s=self.timeout_s)
        except (OSError, http.client.HTTPException):
            return {}
        if status != http.client.OK:
            return {}
        text = body.decode("utf-8", "replace")
        if self.engine not in ENGINES:
            self.engine = engine_of(text)
        values = parse(text, self.engine) if self.engine is not None else {}
        self.cpu_s += time.thread_time() - started_s
        return values

    def add(self, at_s: float, values: dict[str, float]) -> None:
        self._points.append((at_s, values))
        if len(self._points) > self.scrapes_max:
            del self._points[1::2]
            self.interval_s *= 2.0

    def result(self) -> Scraped | None:
        """None where the server has no metrics that are known here."""
        names = [name for name in ENGINES.get(self.engine or "", ()) if any(name in point for _, point in self._points)]
        if not names:
            return None
        return Scraped(
            engine=self.engine or "",
            at_s=[at_s for at_s, _ in self._points],
            series={name: _series(name, [(at_s, point.get(name)) for at_s, point in self._points]) for name in names},
        )


def _series(name: str, points: Iterable[tuple[float, float | None]]) -> list[float | None]:
    if name not in RATES and name not in COUNTS:
        return [value for _, value in points]
    result: list[float | None] = []
    last: tuple[float, float] | None = None
    total = 0.0
    for at_s, value in points:
        grown = None
        if value is not None:
            if last is not None and value >= last[1] and at_s > last[0]:  # else it was started again
                grown = value - last[1]
                total += grown
            if name in RATES:
                result.append(grown / (at_s - last[0]) if grown is not None and last is not None else None)
            else:
                result.append(total)
            last = at_s, value
        else:
            result.append(None)
    return result
