from dataclasses import replace

import pytest

from headway.plan.bounds import bounds
from headway.plan.candidate import Candidate, setups
from headway.plan.engine import Calibration
from headway.plan.forecast import Forecaster
from headway.plan.load import Demand, read_demand
from headway.plan.outcome import Rejected, Why
from headway.plan.parts import DECODE, KV_MEMORY, LATENCY, PREFILL, Work, parts, resource
from headway.plan.predictor import Detailed, Simulated, Sized
from headway.plan.question import classes_of
from headway.plan.records import option_record
from headway.plan.steptime import machine
from headway.policy.slo import Objective
from headway.policy.stepshape import StepShape
from headway.sim.hardware import HARDWARE
from headway.simulate import scheduler_maker
from tests.plan.fake_predictor import question
from tests.plan.setups import setup

H100 = HARDWARE["h100-llama-8b"]


def demand(spec: str = "synthetic:in=256,out=64", slo: str = "conversational:ttft=300,itl=100") -> Demand:
    classes, promised = classes_of((slo,))
    return read_demand(spec, rate=20.0, cv=None, classes=classes, promised=promised, context=32_768)


def forecaster(asked: Demand, *, seeds: int = 2, request_s: float = 0.0) -> Forecaster:
    return Forecaster(
        H100, scheduler_maker("vllm", H100), asked, target=0.95, seeds=seeds, requests=150, request_s=request_s
    )


def test_a_light_load_is_kept_and_its_figures_are_those_of_the_machine() -> None:
    found = forecaster(demand()).forecast(5.0, 1)
    assert found.keeps
    assert found.attainment.value == 1.0
    [mine] = found.classes
    assert mine.itl_p50_s is not None
    assert mine.itl_p50_s.value == pytest.approx(H100.step_s(StepShape(1, 1, 280, 0.0)), rel=0.1)
    assert found.tokens_per_s.value == pytest.approx(5.0 * 64, rel=0.25)
    assert found.user_tokens_per_s == pytest.approx(1 / mine.itl_p50_s.value, rel=0.2)
    assert found.usage.batch < 5.0


def test_what_a_request_spends_on_the_way_counts_as_waiting() -> None:
    asked = demand()
    quick, slow = forecaster(asked).forecast(5.0, 1), forecaster(asked, request_s=0.1).forecast(5.0, 1)
    first, later = quick.classes[0].ttft_p50_s, slow.classes[0].ttft_p50_s
    assert first is not None
    assert later is not None
    assert later.value == pytest.approx(first.value + 0.1)
    assert not forecaster(asked, request_s=0.29).forecast(5.0, 1).keeps


def test_replicas_share_the_load() -> None:
    asked = demand()
    one, four = forecaster(asked).forecast(40.0, 1), forecaster(asked).forecast(40.0, 4)
    assert four.usage.batch < 0.6 * one.usage.batch
    assert four.tokens_per_s.value == pytest.approx(one.tokens_per_s.value, rel=0.1)


def test_every_rate_is_tried_once_and_as_many_seeds_as_it_takes() -> None:
    each = forecaster(demand(), seeds=3)
    assert each.attainment(5.0) == 1.0
    assert each.attainment(5.0) == 1.0
    assert each.simulated == 150
    [(point, figure)] = each.tried
    assert (point.rate, point.keeps) == (5.0, True)
    assert figure.low is not None
    assert figure.low > 0.95


def test_closed_bounds_are_of_the_slowest_requests_that_count() -> None:
    found = bounds(H100, demand("synthetic:in=choices(100:0.9,12000:0.1),out=10").sample(), target=0.95)
    assert found.ttft_s == pytest.approx(H100.step_s(StepShape(12_000, 1, 0, 12_000 * 6000)))
    assert [(name, part) for name, part, _, _ in found.broken] == [("conversational", "ttft")]
    few = bounds(H100, demand("synthetic:in=choices(100:0.97,12000:0.03),out=10").sample(), target=0.95)
    assert not few.broken


def test_no_more_than_the_closed_bound_is_served_for_long() -> None:
    asked = demand()
    found = bounds(H100, asked.sample(), target=0.95)
    beyond = Forecaster(
        H100, scheduler_maker("vllm", H100), asked, target=0.95, seeds=1, requests=1500, life_s=found.life_s
    ).forecast(1.5 * found.rate_max, 1)
    assert not beyond.keeps
    assert found.life_s(1.0) < found.life_s(found.rate_max)


def test_prompts_in_small_chunks_cost_little_beside_decodes() -> None:
    """No chunk under 512 tokens was looked at: loads at 1.05 times the "bound" were kept for thousands of requests."""
    on = machine(setup())
    found = bounds(on, demand("synthetic:in=1000,out=500").sample(), target=0.95)
    beside = StepShape(100 + 200, 101, 100 * 1250, 200 * 500.0)  # what 100 decodes bring with them
    assert found.rate_max >= 100 / 500 / on.step_s(beside)


def test_a_shared_prefix_is_computed_once() -> None:
    alone = bounds(H100, demand("synthetic:in=1050,out=8").sample(), target=0.95)
    shared = bounds(H100, demand("shared-prefix:prefixes=1,prefix=1000,in=50,out=8").sample(), target=0.95)
    assert shared.rate_max > 3 * alone.rate_max
    long = bounds(H100, demand("shared-prefix:prefixes=1,prefix=15000,in=50,out=8").sample(), target=0.95)
    assert not long.broken


@pytest.fixture
def candidate() -> Candidate:
    predictor = Simulated(question("h100-sxm", rate=2.0))
    [setup] = setups(predictor.question)
    found = predictor.screen(setup)
    assert isinstance(found, Candidate)
    return found


def test_parts_of_a_step_add_up_and_follow_the_work(candidate: Candidate) -> None:
    hardware = machine(candidate.setup)
    small = parts(hardware, Work(decodes=1, context=200, prompt_tokens=0, reads=0))
    large = parts(hardware, Work(decodes=16, context=200, prompt_tokens=4000, reads=4000 * 500))
    long = parts(hardware, Work(decodes=64, context=20_000, prompt_tokens=0, reads=0))
    for each in (small, large, long):
        assert sum(each.values()) == pytest.approx(1.0)
        assert list(each.values()) == sorted(each.values(), reverse=True)
    assert next(iter(small)) == "reading weights"
    assert next(iter(large)) == "computing tokens"
    assert next(iter(long)) == "reading the KV cache"
    assert resource(small, kv_peak=0.1, busy=0.9) == DECODE
    assert resource(large, kv_peak=0.1, busy=0.9) == PREFILL
    assert resource(large, kv_peak=0.99, busy=0.9) == KV_MEMORY
    assert resource(large, kv_peak=0.1, busy=0.2) == LATENCY


def test_an_engine_with_slow_all_reduces_spends_its_time_there() -> None:
    """The share was told without the engine's own factor: half of what a step of an engine of 2024 took."""
    on = machine(setup("llama-3.1-70b", gpu="a100-80-sxm", engine="vllm-2024", tp=8))
    work = Work(decodes=4, context=500, prompt_tokens=2000, reads=2000 * 500)
    share = parts(on, work)["all-reduce"]
    assert share == pytest.approx(on.all_reduces_s(work.shape.tokens) / on.step_s(work.shape))


def test_a_calibrated_step_has_the_same_parts_and_more_overhead() -> None:
    """A factor stretched the reading of the KV cache alone, and seconds on top of a step were nowhere."""
    work = Work(decodes=32, context=4000, prompt_tokens=0, reads=0)
    plain = setup()
    twice = replace(plain, calibration=Calibration(factor=2.0))
    assert parts(machine(twice), work) == pytest.approx(parts(machine(plain), work))
    on = machine(replace(plain, calibration=Calibration(step_s=0.003)))
    assert parts(on, work)["overhead"] * on.step_s(work.shape) == pytest.approx(0.003 + on.overhead_s(32))


def test_prompts_beside_decodes_are_no_reads_of_the_kv_cache() -> None:
    """Without their context decodes were taken for prompt tokens, and the attention of prompts was told as reads."""
    on = machine(setup())
    shares = parts(on, Work(decodes=100, context=10, prompt_tokens=1000, reads=1000 * 8000))
    assert shares["reading the KV cache"] < 0.01


def test_a_set_up_is_screened_for_memory_for_the_promise_and_for_how_many_it_takes() -> None:
    def why(*names: str, **changes: object) -> Why:
        predictor = Simulated(replace(question(*names, rate=2.0), **changes))  # type: ignore[arg-type]
        found = predictor.screen(next(setups(predictor.question)))
        assert isinstance(found, Rejected)
        return found.why

    assert why("t4") is Why.NO_MEMORY
    tight = question("h100-sxm").demand.with_objectives(
        {"conversational": classes_of(("conversational:ttft=5",))[0]["conversational"].objective}
    )
    assert why("h100-sxm", demand=tight) is Why.TOO_SLOW
    assert why("h100-sxm", demand=replace(question("h100-sxm").demand, rate=5000.0)) is Why.TOO_MANY


def test_a_load_above_the_closed_bound_is_not_kept_however_a_short_run_ends(candidate: Candidate) -> None:
    asked = question("h100-sxm", rate=1.01 * candidate.bounds.rate_max)
    found = Simulated(replace(asked, seeds=1, requests=100)).forecast(candidate, 1)
    assert found.is_beyond
    assert not found.keeps


def test_replicas_are_told_from_one_and_confirmed_behind_the_router() -> None:
    asked = replace(question("l4", rate=12.0), seeds=1, requests=100, tolerance=0.3)
    predictor = Simulated(asked)
    screened = predictor.screen(next(setups(asked)))
    assert isinstance(screened, Candidate)
    sized = predictor.size(screened)
    assert isinstance(sized, Sized)
    assert sized.replicas >= screened.bounds.replicas_at_least(12.0)
    detailed = predictor.detail(sized, finds_capacity=True)
    assert isinstance(detailed, Detailed)
    assert detailed.forecast.keeps
    assert detailed.forecast.replicas == detailed.replicas
    assert 12.0 / detailed.replicas <= detailed.capacity.value <= screened.bounds.rate_max * 1.01
    assert detailed.binding.said
    assert [point.rate for point in detailed.points] == sorted(point.rate for point in detailed.points)


def test_a_tight_promise_is_not_sure_however_much_room_there_is() -> None:
    """A capacity with room for the whole band was sure, though all first tokens come just in time on an idle machine,
    and too late where steps take a third longer."""
    loose = question("h100-sxm", rate=2.0)
    tight = {"conversational": Objective(ttft_s=0.045, itl_s=0.1)}
    sure = []
    for asked in (loose, replace(loose, demand=loose.demand.with_objectives(tight))):
        predictor = Simulated(replace(asked, seeds=1, requests=100, tolerance=0.3))
        screened = predictor.screen(next(setups(asked)))
        assert isinstance(screened, Candidate)
        sized = predictor.size(screened)
        assert isinstance(sized, Sized)
        detailed = predictor.detail(sized, finds_capacity=True)
        assert isinstance(detailed, Detailed)
        sure.append(option_record(detailed, asked).sure)
    assert sure == [True, False]
