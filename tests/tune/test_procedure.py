"""The whole procedure against levels that are made up, and what is written of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import msgspec
import pytest

from headway.bench import metrics
from headway.bench.figures import Level, Run
from headway.bench.loads import Load, OpenLoop
from headway.bench.record import Record
from headway.bench.report.standing import Standing
from headway.cli import main
from headway.policy.slo import Objective
from headway.tune.engines import Concurrency, Knobs
from headway.tune.observe import Promise
from headway.tune.procedure import Plan, Procedure
from headway.tune.process import StartError
from headway.tune.report import last_seen, level_shown, tune_page, verdict
from headway.tune.result import Stage, StepTaken, Tuned
from tests.tune.levels import TOKENS, FakeServer

PROMISE = Objective(ttft_s=1.0, itl_s=0.05)
POINT = 80  # 10 ms * (1 + 80 / 20) is 50 ms


class Knobbed(Concurrency):
    """Has knobs, and a policy of its own."""

    has_tokens = True
    has_adaptive = True

    def __init__(self) -> None:
        self.used: list[Knobs | None] = []

    async def use(self, knobs: Knobs) -> None:
        self.used.append(knobs)

    async def use_adaptive(self) -> None:
        self.used.append(None)


class Shown:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[StepTaken] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def stage(self, stage: Stage, title: str) -> None:
        self.lines.append(title)

    def step(self, step: StepTaken) -> None:
        self.steps.append(step)


def run(
    server: FakeServer,
    *,
    plan: Plan | None = None,
    promise: Objective = PROMISE,
    engine: Concurrency | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    stop_after: int | None = None,
) -> tuple[Tuned, Shown, list[list[Record]]]:
    tuned = Tuned(run=Run(id="1", started_at="2026-01-01T00:00:00+00:00", kind="tune", target={"model": "m"}))
    shown, kept = Shown(), list[list[Record]]()

    async def go() -> None:
        stop = asyncio.Event()

        def keep(records: list[Record]) -> None:
            kept.append(records)
            if stop_after is not None and len(kept) >= stop_after:
                stop.set()

        await Procedure(
            plan=plan or Plan(seconds=10.0),
            promise=Promise(promise, {"conversational": promise}),
            engine=engine or Concurrency(),
            measure=server.measure,
            show=shown,
            tuned=tuned,
            keep=keep,
            stop=stop,
            clock=clock,
        ).run()

    asyncio.run(go())
    return tuned, shown, kept


def test_batch_rate_and_what_binds_are_found_and_every_step_is_shown_and_kept() -> None:
    tuned, shown, kept = run(FakeServer(PROMISE))
    assert tuned.state == "complete"
    assert tuned.batch is not None
    assert tuned.batch.load == pytest.approx(POINT, rel=0.05)
    assert tuned.batch.part == "itl"
    assert 0.0 <= tuned.batch.margin["itl"] < 0.1
    assert tuned.batch.probes <= 12
    assert tuned.rate is not None
    assert tuned.rate.load == pytest.approx(50.0, rel=0.05)
    assert tuned.binding["resource"] == "decode"
    assert len(shown.steps) == len(tuned.steps) == len(kept) == len(tuned.run.levels)
    assert [step.level for step in tuned.steps] == list(range(len(kept)))
    assert shown.steps[0].load == 1


def test_prompts_are_fresh_for_every_probe() -> None:
    tuned, _, _ = run(FakeServer(PROMISE))
    seeds = [level.seed for level in tuned.run.levels]
    assert len(set(seeds)) == len(seeds)


def test_what_was_found_can_be_written_read_and_reported() -> None:
    tuned, _, kept = run(FakeServer(PROMISE), engine=Knobbed(), plan=Plan(seconds=10.0, tokens=2048))
    tuned.configs = {"vllm": "vllm serve m --max-num-seqs 80\n"}
    assert msgspec.json.decode(msgspec.json.encode(tuned), type=Tuned) == tuned
    text = tune_page(tuned, dict(enumerate(kept)))
    assert "keeps the promise" in text
    assert "--max-num-seqs 80" in text
    assert verdict(tuned).details


def test_each_static_point_is_compared_with_the_adaptive_policy_at_the_same_rates() -> None:
    engine = Knobbed()
    tuned, _, _ = run(FakeServer(PROMISE), engine=engine)
    assert tuned.rate is not None
    rates = {round(each.rate, 9) for each in tuned.compared}
    assert len(rates) == 2
    for rate in rates:
        settings = [each.setting for each in tuned.compared if round(each.rate, 9) == rate]
        assert settings[0] == "adaptive"
        assert 3 <= len(settings) <= 5
    assert engine.used.count(None) == 2


class Queueing(FakeServer):
    """With static batches requests live long and the queue drains after the load: such a level is measured whole."""

    DRAIN_S = 30.0

    def __init__(self, engine: Knobbed) -> None:
        super().__init__(PROMISE)
        self._engine = engine

    async def measure(self, load: Load, seed: int) -> tuple[Level, list[Record]]:
        level, records = await super().measure(load, seed)
        if isinstance(load, OpenLoop) and self._engine.used[-1] is not None:
            level.window_s = (0.0, load.seconds + self.DRAIN_S)
            level.classes = metrics.measure(records, level.window_s, {}, PROMISE)
        return level, records


def test_settings_are_compared_in_the_same_stretch_of_time_however_long_they_drain() -> None:
    """A static batch was divided by its own drain, and looked as if it did less than it did."""
    engine = Knobbed()
    tuned, _, _ = run(Queueing(engine), engine=engine)
    first = [each for each in tuned.compared if each.rate == tuned.compared[0].rate]
    assert len(first) >= 3
    assert len({each.window_s for each in first}) == 1
    for each in first:
        assert each.attainment == 1.0
        assert each.goodput == pytest.approx(each.rate, rel=0.05)
        assert each.throughput == pytest.approx(TOKENS * each.rate, rel=0.1)


def test_what_does_not_count_is_not_compared() -> None:
    """A level that was cut short, or that measured its own client, was a row like any other."""
    server = FakeServer(PROMISE)

    class Lagging(Knobbed):
        async def use(self, knobs: Knobs) -> None:
            await super().use(knobs)
            server.bound = None

        async def use_adaptive(self) -> None:
            await super().use_adaptive()
            server.bound = 1e-9

    tuned, shown, _ = run(server, engine=Lagging())
    assert tuned.compared
    assert not any(each.is_adaptive for each in tuned.compared)
    assert sum("adaptive: does not count, the event loop lagged" in line for line in shown.lines) == 2


class Tokened(Knobbed):
    """With 4096 tokens in a step the server is faster; ``later_gap_s``: once 8192 were tried."""

    has_adaptive = False

    def __init__(self, server: FakeServer, *, later_gap_s: float) -> None:
        super().__init__()
        self._server, self._later_gap_s = server, later_gap_s

    async def use(self, knobs: Knobs) -> None:
        if knobs.tokens != 4096:
            self._server.gap_s = 0.01
        else:
            is_later = any(each is not None and each.tokens == 8192 for each in self.used)
            self._server.gap_s = self._later_gap_s if is_later else 0.008
        await super().use(knobs)


def test_with_other_tokens_in_a_step_the_batch_is_sought_again_and_the_curve_is_of_that_search() -> None:
    """Both searches were drawn as one curve, as if of one server."""
    server = FakeServer(PROMISE)
    engine = Tokened(server, later_gap_s=0.008)
    tuned, _, _ = run(server, engine=engine, plan=Plan(seconds=10.0, tokens=2048))
    assert tuned.tokens == 4096
    assert tuned.batch is not None
    assert tuned.batch.load == pytest.approx(105, rel=0.05)
    assert {step.tokens for step in tuned.steps if step.stage == "batch"} == {2048, 4096}
    assert {step.tokens for step in last_seen(tuned)} == {4096}


def test_if_no_batch_is_found_with_them_all_is_as_it_was() -> None:
    """The answer was that of the second search, which had no point, beside a rate measured at the first one's."""
    server = FakeServer(PROMISE)
    engine = Tokened(server, later_gap_s=1.0)
    tuned, shown, _ = run(server, engine=engine, plan=Plan(seconds=10.0, tokens=2048))
    assert tuned.tokens == 2048
    assert tuned.batch is not None
    assert tuned.batch.load == pytest.approx(POINT, rel=0.05)
    assert tuned.rate is not None
    assert "so it stays with 2048 tokens in a step" in shown.lines
    assert {step.tokens for step in last_seen(tuned)} == {2048}


def test_only_levels_of_one_setting_are_joined_in_curves_and_the_others_say_which_they_are() -> None:
    """The comparison's levels, of the adaptive policy and of other batches, were points of the same curve."""
    tuned, _, kept = run(FakeServer(PROMISE), engine=Knobbed())
    names = [tuned.run.levels[row.level].name for row in tuned.compared]
    assert all(name.endswith(f", {row.setting}") for name, row in zip(names, tuned.compared, strict=True))
    text = tune_page(tuned, dict(enumerate(kept)))
    charts = json.loads(text.split('id="charts">')[1].split("</script>")[0])
    [attainment] = [each for each in charts if each["title"] == "Attainment" and "offered" in each["x"]["label"]]
    assert len(attainment["x_values"]) == sum(step.stage == "rate" for step in tuned.steps)


def test_the_report_shows_the_level_of_the_point() -> None:
    """It showed whichever level had the most goodput, of the search for the rate or of the comparison."""
    tuned, _, _ = run(FakeServer(PROMISE), engine=Knobbed())
    at = level_shown(tuned)
    assert at is not None
    assert tuned.batch is not None
    assert tuned.run.levels[at].name == f"{tuned.batch.load:g} at once"


def test_without_a_promise_the_batch_is_sought_from_which_more_brings_no_more() -> None:
    tuned, _, _ = run(FakeServer(Objective()), promise=Objective(), plan=Plan(most=512, seconds=10.0))
    assert tuned.batch is not None
    assert tuned.batch.part == "throughput"
    assert tuned.batch.load is not None
    assert tuned.batch.load >= 64
    assert tuned.rate is None
    assert verdict(tuned).standing is Standing.NO_PROMISE


def test_a_server_that_dies_leaves_what_was_found_and_no_bound() -> None:
    server = FakeServer(PROMISE)
    server.dies_at = 60
    tuned, _, kept = run(server, plan=Plan(seconds=10.0, finds_rate=False))
    assert (tuned.state, tuned.reason) == ("partial", "the server went away")
    assert tuned.batch is not None
    assert tuned.batch.high is None
    assert tuned.batch.low is not None
    assert tuned.batch.low < 60
    assert len(kept) == len(tuned.run.levels)


def test_an_interrupt_keeps_what_was_measured() -> None:
    tuned, _, kept = run(FakeServer(PROMISE), stop_after=2)
    assert (tuned.state, tuned.reason) == ("partial", "interrupted")
    assert len(kept) == 2
    assert tuned.batch is not None


def test_when_the_time_is_over_the_search_ends() -> None:
    times = iter(range(0, 10_000, 100))
    tuned, _, _ = run(FakeServer(PROMISE), plan=Plan(seconds=10.0, minutes=5.0), clock=lambda: next(times))
    assert tuned.state == "partial"
    assert tuned.reason == "5 minutes are over"


def test_a_probe_is_not_made_longer_than_was_asked_for_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "127.0.0.1:9", "--seconds", "1"]) == 2
    assert capsys.readouterr().err == "headway: --seconds must be 4 to 3600, not 1\n"


class Small(Knobbed):
    """Does not start with more than ``most`` at once."""

    has_adaptive = False

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    async def use(self, knobs: Knobs) -> None:
        if (knobs.batch or 0) > self._most:
            raise StartError("the server ended with status 1 before it was ready\n  out of memory")
        await super().use(knobs)


def test_a_batch_that_the_server_does_not_start_with_is_where_the_search_ends() -> None:
    """It ended all of it, without a point, a rate or a configuration, when the climb was too bold."""
    tuned, shown, _ = run(FakeServer(PROMISE), engine=Small(50))
    assert tuned.state == "complete"
    assert tuned.batch is not None
    assert tuned.batch.found == "server"
    assert tuned.batch.load is not None
    assert 12 <= tuned.batch.load <= 50
    assert "keeps the promise; with batch" in tuned.batch.sentence
    assert "ended with status 1" in tuned.batch.sentence
    assert tuned.rate is not None
    assert any("out of memory" in line for line in shown.lines)


def test_a_server_that_has_never_started_is_no_answer() -> None:
    with pytest.raises(StartError):
        run(FakeServer(PROMISE), engine=Small(0))


def test_without_a_promise_a_batch_that_it_does_not_start_with_ends_the_doubling() -> None:
    tuned, _, _ = run(FakeServer(Objective()), promise=Objective(), engine=Small(20))
    assert tuned.batch is not None
    assert (tuned.batch.found, tuned.batch.load) == ("server", 16)


def test_a_client_at_its_limit_is_said_to_be_what_binds() -> None:
    server = FakeServer(PROMISE)
    server.bound = 40
    tuned, _, _ = run(server, plan=Plan(seconds=10.0, finds_rate=False))
    assert tuned.batch is not None
    assert tuned.batch.found == "client"
    assert tuned.binding["resource"] == "client"
    assert all(step.verdict == "void" for step in tuned.steps if step.load >= 40)
