import pytest

from headway.plan.errors import PlanError
from headway.plan.load import Demand, read_demand
from headway.plan.precision import Precision
from headway.plan.question import change_of, classes_of, precision_of, precisions_of
from headway.policy.objectives import read_classes
from headway.policy.slo import Objective


@pytest.fixture
def demand() -> Demand:
    classes = read_classes({}, ("conversational:ttft=300,itl=100",))
    return read_demand("synthetic", rate=10.0, cv=None, classes=classes, promised=("conversational",), context=8192)


def test_a_promise_is_read_in_milliseconds() -> None:
    classes, given = classes_of(("conversational:ttft=300,itl=100", "interactive:e2e=none"))
    assert classes["conversational"].objective.ttft_s == 0.3
    assert classes["interactive"].objective.e2e_s is None
    assert given == ("conversational", "interactive")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conversational:ttft=0.3", "if 0.3 s was meant, write ttft=300"),
        ("conversational:itl=0.05", "write itl=50"),
        ("interactive:e2e=2", "write e2e=2000"),
        ("conversational:ttft=300ms", "without a unit: ttft=300"),
        ("conversational:ttft=0.3s", "without a unit: ttft=300"),
        ("conversational:ttft=-5", "between 1 and"),
        ("conversational:ttft=nan", "between 1 and"),
        ("conversational:ttft=soon", "number of milliseconds"),
        ("conversational", "write NAME:ttft=300"),
        ("gold:ttft=300", "no service class 'gold'"),
        ("conversational:tpot=20", "write NAME:ttft=300"),
    ],
)
def test_a_promise_in_other_units_or_words_is_refused_with_what_works(text: str, said: str) -> None:
    with pytest.raises(PlanError, match=said) as error:
        classes_of((text,))
    assert "\n" not in str(error.value)


def test_precisions_have_other_names_and_no_doubles() -> None:
    assert precisions_of(["fp16", "bf16", "FP8"]) == (Precision.BF16, Precision.FP8)
    with pytest.raises(PlanError, match="no precision 'bf8'; there are fp32"):
        precision_of("bf8")


def test_a_change_of_the_rate(demand: Demand) -> None:
    assert change_of("rate=2x").of(demand).rate == 20.0
    assert change_of("rate=35").of(demand).rate == 35.0


def test_a_change_of_lengths_and_promises(demand: Demand) -> None:
    changed = change_of("prompt=1.5x,output=2x,itl=50").of(demand)
    assert {call.size.prompt_tokens for call in changed.sample()} == {192}
    assert {call.size.output_tokens for call in changed.sample()} == {256}
    assert {call.max_tokens for call in changed.sample()} == {256}
    assert changed.promises["conversational"].itl_s == 0.05
    assert changed.promises["conversational"].ttft_s == 0.3
    assert change_of("ttft=0.5x").of(demand).promises["conversational"].ttft_s == 0.15


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate", "write one of"),
        ("gpus=2x", "write one of"),
        ("rate=2x,rate=3x", "write one of"),
        ("prompt=500", "by a factor"),
        ("rate=ax", "is no factor"),
        ("rate=0x", "a factor must be"),
        ("rate=0", "requests a second"),
        ("itl=0.05", "write itl=50"),
        ("itl=fast", "is no number"),
        ("ttft=0", "1 to 86,400,000"),
    ],
)
def test_a_what_if_that_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        change_of(text)


def test_a_change_that_leads_too_far_is_refused(demand: Demand) -> None:
    with pytest.raises(PlanError, match="more than 100,000"):
        change_of("rate=100x").of(Demand(name="", description="", workload=demand.workload, rate=50_000.0))
    with pytest.raises(PlanError, match="ttft must be between"):
        change_of("ttft=0.01x").of(demand.with_objectives(read_classes_of(50)))


def read_classes_of(ttft_ms: int) -> dict[str, Objective]:
    return {"conversational": read_classes({}, (f"conversational:ttft={ttft_ms}",))["conversational"].objective}
