"""What follows from a point: configurations, what binds, tokens in a step, saturation, and the command's refusals."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable

import pytest

from headway.bench.figures import ClassFigures, ClientHealth, Level, Quantiles, Scraped
from headway.policy.objectives import read_classes
from headway.policy.slo import Objective
from headway.tune.binding import Resource, binding
from headway.tune.command import app
from headway.tune.configs import Chosen, configs
from headway.tune.knobs import Score, TokensSearch
from headway.tune.observation import Observation
from headway.tune.probe import Found, Limits, Outcome, Probe
from headway.tune.saturation import Saturation
from headway.tune.wording import sentence

CHOSEN = Chosen(
    batch=48,
    tokens=2048,
    rate=10.0,
    longest=600,
    model="my org/model",
    objectives={"conversational": Objective(ttft_s=0.3, itl_s=0.1)},
)


def options(text: str) -> dict[str, str]:
    command = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    words = shlex.split(command.replace("\\\n", " "))
    return {word: words[place + 1] for place, word in enumerate(words[:-1]) if word.startswith("--")}


def test_every_engine_gets_its_own_flags_with_a_reason_for_each() -> None:
    found = configs(CHOSEN)
    assert options(found["vllm"])["--max-num-seqs"] == "48"
    assert options(found["vllm"])["--max-num-batched-tokens"] == "2048"
    assert options(found["sglang"]) == {
        "--model-path": "my org/model",
        "--max-running-requests": "48",
        "--chunked-prefill-size": "2048",
        "--max-queued-requests": "3",
    }
    assert options(found["tgi"])["--max-concurrent-requests"] == "51"
    assert options(found["tgi"])["--max-batch-total-tokens"] == str(48 * 600)
    assert options(found["llama.cpp"])["--parallel"] == "48"
    assert options(found["llama.cpp"])["--ctx-size"] == str(48 * 600)
    for engine, text in found.items():
        for flag in options(text):
            if engine != "headway" and flag not in ("--model-path", "--model-id", "--model"):
                assert any(line.startswith("#") and flag in line for line in text.splitlines()), (engine, flag)


def test_headways_configuration_is_one_that_it_reads() -> None:
    values = tomllib.loads(configs(CHOSEN)["headway"])
    assert values["serve"] == {"max_running": 96, "max_step_tokens": 2048}
    classes = read_classes(values["classes"])
    assert classes["conversational"].objective == Objective(ttft_s=0.3, itl_s=0.1)


def level(
    *, scraped: dict[str, list[float | None]] | None = None, bound: str | None = None, stall: float = 1.0
) -> Level:
    def quantiles(p50: float, p95: float) -> Quantiles:
        return Quantiles(n=100, mean=p50, p50=p50, p90=p95, p95=p95, p99=p95, max=p95)

    latencies = {"ttft": quantiles(0.1, 0.5), "itl": quantiles(0.05, 0.05 * stall), "e2e": quantiles(1.0, 2.0)}
    figures = ClassFigures(name="", offered=100, ok=100, latencies=latencies, misses={"itl": 7, "ttft": 2})
    return Level(
        name="64 at once",
        classes=[figures],
        client=ClientHealth(bound=bound),
        scraped=Scraped(engine="vllm", at_s=[0.0, 1.0], series=scraped or {}),
    )


@pytest.mark.parametrize(
    ("seen", "part", "resource"),
    [
        (level(), "itl", Resource.DECODE),
        (level(stall=4.0), "itl", Resource.PREFILL),
        (level(), "conversational ttft", Resource.PREFILL),
        (level(), "e2e", Resource.DECODE),
        (level(), "misses", Resource.DECODE),
        (level(), "failures", Resource.ADMISSION),
        (level(bound="lag"), "itl", Resource.CLIENT),
        (level(scraped={"preemptions": [0.0, 3.0]}), "itl", Resource.KV_MEMORY),
        (level(scraped={"kv_usage": [0.95, 0.97]}), "ttft", Resource.KV_MEMORY),
        (level(scraped={"waiting": [32.0, 32.0], "running": [32.0, 32.0]}), "ttft", Resource.SLOTS),
        (Level(name="nothing"), "itl", Resource.UNKNOWN),
    ],
)
def test_what_binds_follows_from_the_figures(seen: Level, part: str, resource: Resource) -> None:
    found = binding(seen, part, at_once=64)
    assert found.resource is resource
    assert found.why


def climb(best: int, first: int = 2048) -> TokensSearch:
    def scored(tokens: int) -> Score:
        return Score(True, 1000.0 / (1 + abs(tokens.bit_length() - best.bit_length())))

    search = TokensSearch(first, scored(first), least=16, probes=6)
    while (tokens := search.next()) is not None:
        search.tell(tokens, scored(tokens))
    return search


@pytest.mark.parametrize("best", [256, 512, 1024, 2048, 4096, 8192, 16384])
def test_tokens_in_a_step_are_climbed_either_way(best: int) -> None:
    assert climb(best).best == best


def test_a_setting_that_keeps_the_promise_is_better_than_one_that_is_faster() -> None:
    assert Score(True, 10.0).is_better(Score(False, -1.2))
    assert Score(False, -1.2).is_better(Score(False, -2.0))
    assert not Score(True, 101.0).is_better(Score(True, 100.0))


def test_without_a_promise_doubling_ends_where_it_no_longer_pays() -> None:
    search = Saturation(Limits(most=512))
    while (probe := search.next()) is not None:
        search.tell(probe, Observation(throughput=min(probe.load, 40.0) * 100.0, samples=100))
    outcome = search.outcome()
    assert (outcome.found, outcome.load) == (Found.POINT, 64)


def saturated(seen: Callable[[Probe], Observation], *, probes: int = 12, most: int = 512) -> tuple[Saturation, str]:
    search = Saturation(Limits(probes=probes, most=most))
    while (probe := search.next()) is not None:
        search.tell(probe, seen(probe))
    return search, sentence("batch", search.outcome(), most)


def growing(probe: Probe) -> Observation:
    return Observation(throughput=100.0 * probe.load, samples=100)


def test_it_says_why_no_more_was_tried() -> None:
    """Who reads that 6.5 a second are kept and no more was tried asks whether to wait longer: it would not help."""
    kept = Outcome(found=Found.OPEN, load=6.5, low=6.5, high=None, crossing=None, part=None)
    assert sentence("rate", kept, 6.5).endswith(
        "no more than 6.5 requests/s, twice what the point above got done, was tried"
    )
    assert sentence("batch", kept, 64).endswith("no more than batch 64, the most it was to be, was tried")


def test_where_nothing_is_promised_nothing_is_said_to_keep_a_promise() -> None:
    """Nor that no more than the largest batch was tried, when the probes ran out far below it."""
    search, said = saturated(growing, most=16)
    assert search.outcome().found is Found.OPEN
    assert said == "batch 16 brought the most tokens a second, and no more at once was tried"
    search, said = saturated(growing, probes=3)
    assert search.outcome().found is Found.CUT
    assert said == "ended before it could tell (no probes left); the best so far is batch 4"


def test_a_load_that_did_not_count_is_tried_once_more_and_ends_the_doubling() -> None:
    def lagging_at_8(probe: Probe) -> Observation:
        return Observation(void="the event loop lagged", is_client_bound=True) if probe.load == 8 else growing(probe)

    search, said = saturated(lagging_at_8)
    assert [step.probe.load for step in search.steps] == [1, 2, 4, 8, 8]
    assert search.outcome().found is Found.CLIENT
    assert said == "at least batch 4: beyond it this client was the limit, not the server"


def test_tokens_of_which_nothing_follows_are_tried_once_more() -> None:
    """They counted as no better, and the search turned round."""
    search = TokensSearch(2048, Score(True, 100.0), least=16, probes=6)
    tried = []
    while (tokens := search.next()) is not None:
        tried.append(tokens)
        search.tell(tokens, None if tried == [4096] else Score(True, 100.0 + tokens / 100.0))
    assert tried[:2] == [4096, 4096]
    assert search.best == 32_768


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://x"], "is not an address"),
        (["http://x", "--max-batch", "0"], "--max-batch must be 1 to"),
        (["http://x", "--probes", "0"], "--probes must be 1 to"),
        (["http://x", "--class", "nobody"], "there is no such class"),
        (["http://x", "--ttft", "0"], "ttft must be between"),
        (["http://x", "--command", "vllm serve m"], "nothing to be tuned"),
        (["http://x", "--command", "vllm {x}"], "what can be filled in"),
        (["http://x", "--tokens", "2048"], "needs a server that can be told"),
        (["http://x", "--command", "v {batch}", "--admin-url", "http://y"], "not both"),
        (["http://x", "--admin-url", "http://y"], "needs a key"),
        (["http://127.0.0.1:9", "--store", "none"], "127.0.0.1:9"),
    ],
)
def test_nonsense_is_one_clear_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADWAY_ADMIN_KEY", raising=False)
    command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    assert command(*bound.args, **bound.kwargs) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
