"""What is wrong with a measurement is said beside it."""

from __future__ import annotations

from typing import Any

import pytest

from headway.bench.doubts import doubts
from headway.bench.metrics import measure
from headway.bench.record import Outcome, Record
from headway.bench.window import Window
from headway.policy.slo import Objective
from tests.bench.made_records import failure, reply

WINDOW = Window(0.0, 1000.0, 1000.0)


def said(
    records: list[Record],
    *,
    window: Window = WINDOW,
    exact_output: bool = True,
    expects_cached: bool = False,
    promise: Objective | None = None,
) -> list[str]:
    promised = promise or Objective()
    figures = measure(records, window.span_s, {}, promised)
    return doubts(records, window, figures, exact_output=exact_output, expects_cached=expects_cached)


def replies(count: int = 100, **fields: Any) -> list[Record]:
    made = [reply(at, 0.1, [0.01] * 9) for at in range(count)]
    for record in made:
        for name, value in fields.items():
            setattr(record, name, value)
    return made


def test_a_good_run_is_not_doubted() -> None:
    assert said(replies(usage_completion=10, usage_prompt=10, usage_cached=0), promise=Objective(ttft_s=0.3)) == []


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"usage_completion": 11, "max_tokens": 11}, "says it wrote 1100 tokens, but 1000 were counted"),
        ({"usage_prompt": 31}, "31 tokens on average by the server's count, 10 by the workload's"),
        (
            {"max_tokens": 64},
            "100 of 100 replies did not have the length that was asked for (mean 10, asked 64",
        ),
        ({"usage_prompt": 10, "usage_cached": 5}, "50% of the prompt tokens came from the server's prefix cache"),
        ({"is_counted": False, "usage_completion": 10}, "100 of 100 replies came in chunks of unknown numbers"),
        ({"service_tier": "flex"}, "100 of 100 requests were served as flex, which they had not asked for"),
    ],
)
def test_a_doubt(fields: dict[str, Any], line: str) -> None:
    (only,) = said(replies(**fields))
    assert line in only


def test_what_is_meant_is_not_doubted() -> None:
    assert said(replies(max_tokens=64), exact_output=False) == []
    assert said(replies(usage_cached=9), expects_cached=True) == []
    assert said(replies(asked_tier="flex", service_tier="flex")) == []
    assert said(replies(usage_completion=10, usage_prompt=10)[:98] + replies(2, max_tokens=64)) == []


def test_a_short_window_and_requests_that_never_ended() -> None:
    assert said(replies(), window=Window(0.0, 1000.0, 1000.0, "too short"))[0] == "the window is too short"
    (cut,) = said(replies() + [failure(1.0, Outcome.CUT)] * 3)
    assert cut.startswith("3 of 103 requests were still under way")


def test_few_samples() -> None:
    few = said(replies(40), promise=Objective(ttft_s=0.3))
    assert few == [
        "40 requests are too few for a p95: it takes 72 to bound one",
        "40 requests, 100.0% in SLO, don't decide whether 95% were kept; about 73 like these would",
    ]
    late = [reply(at, 0.1 if at % 25 else 1.0) for at in range(100)]
    (undecided,) = said(late, promise=Objective(ttft_s=0.3))
    assert undecided.startswith("100 requests, 96.0% in SLO, don't decide")
    assert "about 1825 like these would" in undecided
    close = [reply(at, 0.1 if at % 20 else 1.0) for at in range(100)]
    assert said(close, promise=Objective(ttft_s=0.3))[0].endswith("it is too close to call")


def test_classes_are_told_apart_where_there_are_several() -> None:
    records = replies(50, service_class="batch") + replies(80, service_class="chat")
    assert said(records) == ["batch: 50 requests are too few for a p95: it takes 72 to bound one"]
