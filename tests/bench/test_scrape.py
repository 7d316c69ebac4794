"""The metrics of five engines come onto one set of names."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest

from headway.bench.scrape import Scraper, engine_of, parse
from headway.bench.target import Target
from tests.bench.plain_server import plain_server

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="a \\"quoted\\" } name"} 1.5e+03
vllm:generation_tokens_total{engine="0",model_name="m"} 700.0
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:time_to_first_token_seconds_bucket{le="0.001"} 5.0
"""
HEADWAY = """headway_requests_running 2.0
headway_requests_waiting 5.0
headway_kv_usage_ratio 0.5
headway_prompt_tokens_total 100.0
headway_output_tokens_total 200.0
headway_preemptions_total 0.0
headway_denied_choices_total{service_class="batch",fate="shed",reason="late"} 3.0
headway_denied_choices_total{service_class="batch",fate="demoted",reason="late"} 8.0
vllm:num_requests_running{engine="0",model_name="m"} 2.0
"""
SGLANG = """sglang:num_running_reqs{model_name="m",priority="",tp_rank="0"} 6.0
sglang:num_running_reqs{model_name="m",priority="5",tp_rank="0"} 4.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.28
sglang:prompt_tokens_total{model_name="m"} 1000.0
sglang:generation_tokens_total{model_name="m"} 100.0
sglang:realtime_tokens_total{mode="decode",model_name="m"} 150.0
sglang:num_retracted_requests_total{model_name="m"} 1.0
"""
TGI = """tgi_batch_current_size 4
tgi_queue_size 7
tgi_request_input_length_sum 500
tgi_request_input_length_count 5
tgi_request_generated_tokens_sum 250
"""
LLAMA = """llamacpp:prompt_tokens_total 33065
llamacpp:tokens_predicted_total 7801
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
llamacpp:predicted_tokens_seconds nan
"""


@pytest.mark.parametrize(
    ("text", "engine", "values"),
    [
        (
            VLLM,
            "vllm",
            {
                "running": 7.0,
                "waiting": 1.0,
                "kv_usage": 0.75,
                "prompt_rate": 1500.0,
                "generation_rate": 700.0,
                "preemptions": 2.0,
            },
        ),
        (
            HEADWAY,
            "headway",
            {
                "running": 2.0,
                "waiting": 5.0,
                "kv_usage": 0.5,
                "prompt_rate": 100.0,
                "generation_rate": 200.0,
                "preemptions": 0.0,
                "shed": 3.0,
            },
        ),
        (
            SGLANG,
            "sglang",
            {
                "running": 6.0,
                "waiting": 2.0,
                "kv_usage": 0.28,
                "prompt_rate": 1000.0,
                "generation_rate": 150.0,
                "preemptions": 1.0,
            },
        ),
        (TGI, "tgi", {"running": 4.0, "waiting": 7.0, "prompt_rate": 500.0, "generation_rate": 250.0}),
        (LLAMA, "llama.cpp", {"running": 2.0, "waiting": 1.0, "prompt_rate": 33065.0, "generation_rate": 7801.0}),
    ],
)
def test_an_engine(text: str, engine: str, values: dict[str, float]) -> None:
    assert engine_of(text) == engine
    assert parse(text, engine) == values


def test_older_names_and_lines_that_are_none() -> None:
    assert parse("vllm:gpu_cache_usage_perc 0.5\n\n{}\nvllm:num_requests_running\n", "vllm") == {"kv_usage": 0.5}
    assert parse("vllm:num_requests_running NaN\nvllm:num_requests_waiting 1 1700000000\n", "vllm") == {"waiting": 1.0}
    denied = 'headway_denied_choices_total{fate="%s"} 3\n'
    assert parse(denied % "refused" + denied % "shed" + denied % "demoted", "headway") == {"shed": 6.0}
    assert parse("headway_requests_running 1\n", "headway") == {"running": 1.0, "shed": 0.0}
    assert engine_of("# vllm:num_requests_running\nprocess_cpu_seconds_total 1\n") is None


def scraper(scrapes_max: int = 100, interval_s: float = 1.0) -> Scraper:
    times = itertools.count()
    target = Target(host="127.0.0.1", port=1)
    return Scraper(target, "vllm", lambda: next(times), scrapes_max=scrapes_max, interval_s=interval_s)


def test_counters_become_rates_and_what_came_since_the_start() -> None:
    it = scraper()
    for at_s, values in (
        (0.0, {"running": 1.0, "generation_rate": 100.0, "preemptions": 5.0}),
        (2.0, {"running": 2.0, "generation_rate": 300.0, "preemptions": 6.0}),
        (3.0, {}),  # nothing came
        (4.0, {"running": 3.0, "generation_rate": 400.0, "preemptions": 9.0}),
        (5.0, {"running": 0.0, "generation_rate": 10.0, "preemptions": 1.0}),  # the server was started again
        (6.0, {"running": 1.0, "generation_rate": 30.0, "preemptions": 2.0}),
    ):
        it.add(at_s, values)
    found = it.result()
    assert found is not None
    assert found.at_s == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert found.series == {
        "running": [1.0, 2.0, None, 3.0, 0.0, 1.0],
        "generation_rate": [None, 100.0, None, 50.0, None, 20.0],
        "preemptions": [0.0, 1.0, None, 4.0, 4.0, 5.0],
    }


def test_a_long_run_has_fewer_scrapes() -> None:
    it = scraper(scrapes_max=10)
    for at in range(25):
        it.add(float(at), {"running": 1.0})
    found = it.result()
    assert found is not None
    assert len(found.at_s) <= 10
    assert it.interval_s > 1.0


def test_a_run_is_scraped_while_it_lasts() -> None:
    async def run(port: int) -> None:
        it.target = Target(host="127.0.0.1", port=port, key="secret")
        async with it.running():
            assert await asyncio.to_thread(scraped.wait, 10.0)

    def answer(path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        assert path == "/metrics"
        assert headers["authorization"] == "Bearer secret"
        if it.result() is not None:
            scraped.set()
        return 200, VLLM

    it, scraped = scraper(interval_s=0.001), threading.Event()
    it.engine = None
    with plain_server(answer) as port:
        asyncio.run(run(port))
    found = it.result()
    assert found is not None
    assert found.engine == it.engine == "vllm"
    assert found.series["running"][0] == 7.0
    assert 0.0 < it.cpu_s < 1.0


@pytest.mark.parametrize("reply", [(404, "no"), (200, ""), (200, "process_cpu_seconds_total 1\n"), (500, VLLM)])
def test_a_server_without_metrics_is_fine(reply: tuple[int, str]) -> None:
    with plain_server(lambda *_: reply) as port:
        it = Scraper(Target(host="127.0.0.1", port=port), None, lambda: 0.0)
        it.add(0.0, it.scrape())
    it.add(1.0, it.scrape())  # and so is one that has gone
    assert it.result() is None
