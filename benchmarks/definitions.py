"""The figures that other load generators would have made of our records: their definitions, applied to what we saw.

Read from vLLM 0.32.0 (``vllm/benchmarks``), GuideLLM 0.8.1 (``schemas/base/request_stats.py``) and AIPerf 0.13.0
(``metrics/types``). All three count from when a request was really sent, take every request of the run, and divide all
output tokens by the time from the first request to the end of the last.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from headway.bench.record import Record

Figures = dict[str, float]


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between ranks, as numpy does."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low, high = math.floor(at), math.ceil(at)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def as_vllm(records: Sequence[Record]) -> Figures:
    """TPOT: (E2E - TTFT) / (n - 1), a value a request. ITL: gaps between events, over all of them.

    vLLM takes the event that says why a reply ended for one more token event; where it comes on its own, right after
    the last token, as here, each reply has one more gap, of nothing.
    """
    whole = _whole(records)
    gaps_s = [gap_s for each in whole for gap_s in [*each.chunk_gaps_s(), 0.0]]
    return {
        **_summary("ttft", [_since_sent(each, each.chunk_s[0]) for each in whole]),
        **_summary("tpot", _means(whole)),
        **_summary("itl", gaps_s),
        **_summary("e2e", [_since_sent(each, each.chunk_s[-1]) for each in whole]),
        "throughput": _throughput(whole),
    }


def as_guidellm(records: Sequence[Record]) -> Figures:
    """ITL: (last - first) / (n - 1), a value a request. TPOT: (last - sent) / n, with the first token. E2E: to the end
    of the reply."""
    whole = _whole(records)
    return {
        **_summary("ttft", [_since_sent(each, each.chunk_s[0]) for each in whole]),
        **_summary("itl", _means(whole)),
        **_summary("tpot", [_since_sent(each, each.chunk_s[-1]) / each.tokens for each in whole]),
        **_summary("e2e", [_since_sent(each, each.ended_s) for each in whole]),
        "throughput": _throughput(whole),
    }


def as_aiperf(records: Sequence[Record]) -> Figures:
    """ITL: (last - first) / (n - 1), a value a request; n less the tokens of the first event where it is run with
    ``--per-chunk-usage``. ICL: gaps between events."""
    whole = _whole(records)
    return {
        **_summary("ttft", [_since_sent(each, each.chunk_s[0]) for each in whole]),
        **_summary("itl", _means(whole)),
        **_summary("icl", [gap_s for each in whole for gap_s in each.chunk_gaps_s()]),
        **_summary("e2e", [_since_sent(each, each.chunk_s[-1]) for each in whole]),
        "throughput": _throughput(whole),
    }


AS: dict[str, Callable[[Sequence[Record]], Figures]] = {"vllm": as_vllm, "guidellm": as_guidellm, "aiperf": as_aiperf}


def _whole(records: Sequence[Record]) -> list[Record]:
    return [each for each in records if each.is_ok and each.chunk_s and each.sent_s is not None]


def _since_sent(record: Record, end_s: float) -> float:
    assert record.sent_s is not None
    return end_s - record.sent_s


def _means(whole: Sequence[Record]) -> list[float]:
    return [(each.chunk_s[-1] - each.chunk_s[0]) / (each.tokens - 1) for each in whole if each.tokens > 1]


def _throughput(whole: Sequence[Record]) -> float:
    first_s = min(each.intended_s for each in whole)
    return sum(each.tokens for each in whole) / (max(each.ended_s for each in whole) - first_s)


def _summary(name: str, values: Sequence[float]) -> Figures:
    return {
        f"{name}_mean": statistics.fmean(values),
        f"{name}_p50": percentile(values, 0.5),
        f"{name}_p95": percentile(values, 0.95),
    }
