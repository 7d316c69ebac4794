"""The line about a busy server: what was promised, what was kept, how busy it is."""

from __future__ import annotations

from typing import Any

from headway.policy.config import SchedulerConfig
from headway.policy.plan import ExecutorInfo
from headway.policy.scheduler import Scheduler
from headway.policy.slo import ServiceClasses
from headway.policy.stats import Stats
from headway.serve.attainment import SloOutcome
from headway.serve.status import StatusLine
from headway.serve.telemetry import Telemetry

CLASSES = ServiceClasses()


def stats(**values: Any) -> Stats:
    info = ExecutorInfo(block_size=16, kv_blocks=100, context_tokens=64, vocab_size=8, description="fake")
    empty = Scheduler(info, SchedulerConfig(), prefix_key=b"").stats()
    fields = {name: getattr(empty, name) for name in empty.__slots__}
    return Stats(**{**fields, **values})


def test_it_shows_each_class_that_has_traffic_against_its_promise() -> None:
    telemetry = Telemetry(CLASSES)
    for _ in range(100):
        telemetry.classes["conversational"].latencies["ttft"].observe(100.0, 0.212)
        telemetry.classes["conversational"].latencies["itl"].observe(100.0, 0.061)
        telemetry.classes["conversational"].latencies["e2e"].observe(100.0, 9.0)
    telemetry.tokens_out = 2060
    line = StatusLine(telemetry).next(stats(running=23, waiting=4, kv_blocks_used=38), CLASSES, 100.0, 5.0)
    assert line == (  # p95s are to half a percent
        "conversational p95 TTFT 211/300 ms ITL 61/100 ms | 23 running 4 waiting | 412 tok/s | KV 38 % | shed 0"
    )


def test_it_counts_since_the_last_line_and_forgets_after_a_minute() -> None:
    telemetry = Telemetry(CLASSES)
    line = StatusLine(telemetry)
    telemetry.classes["batch"].latencies["ttft"].observe(100.0, 4.0)
    telemetry.classes["interactive"].latencies["e2e"].observe(100.0, 1.5)
    telemetry.classes["interactive"].outcomes[SloOutcome.SHED] += 3
    telemetry.classes["interactive"].outcomes[SloOutcome.DEMOTED] += 2
    busy = stats(running=1)
    assert line.next(busy, CLASSES, 101.0, 1.0) == (
        "interactive p95 E2E 1499/2000 ms | batch p95 TTFT 3995 ms"
        " | 1 running 0 waiting | 0 tok/s | KV 0 % | shed 3 | demoted 2"
    )
    assert line.next(busy, CLASSES, 161.0, 1.0) == "1 running 0 waiting | 0 tok/s | KV 0 % | shed 0"


def test_a_quiet_server_is_quiet() -> None:
    telemetry = Telemetry(CLASSES)
    line = StatusLine(telemetry)
    assert line.next(stats(), CLASSES, 1.0, 1.0) is None
    telemetry.classes["interactive"].outcomes[SloOutcome.SHED] += 1
    assert line.next(stats(), CLASSES, 2.0, 1.0) is not None, "it refuses, which is news"
    assert line.next(stats(), CLASSES, 3.0, 1.0) is None
