from pathlib import Path

import pytest

from headway.plan.errors import PlanError
from headway.plan.intervals import attainment, over_seeds, share
from headway.plan.outcome import SCHEMA, SCHEMA_VERSION, from_json, read_plan, to_json
from headway.plan.pool import Serial
from headway.plan.search import search
from tests.plan.fake_predictor import Fake, question
from tests.plan.test_search import Quiet


def test_a_plan_survives_json() -> None:
    asked = question("h100-sxm", "l4", what_if=("rate=2x",))
    plan = search(asked, lambda each: Fake(each, {"h100-sxm": 30.0}), Serial(), Quiet())
    data = to_json(plan)
    assert f'"schema": "{SCHEMA}{SCHEMA_VERSION}"'.encode() in data
    assert from_json(data) == plan


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"{}", "not JSON with a schema"),
        (b'{"schema": "headway.bench/1"}', "its schema is 'headway.bench/1'"),
        (b'{"schema": "headway.plan/2"}', "newer Headway"),
        (b'{"schema": "headway.plan/1"}', "damaged plan"),
    ],
)
def test_what_is_no_plan_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(data)
    with pytest.raises(PlanError, match=said) as error:
        read_plan(path)
    assert str(path) in str(error.value)
    with pytest.raises(PlanError, match="No such file"):
        read_plan(tmp_path / "none.json")


def test_an_interval_over_seeds_is_students() -> None:
    figure = over_seeds([1.0, 2.0, 3.0])
    assert figure.value == 2.0
    assert figure.high == pytest.approx(2.0 + 2.920 / 3**0.5)
    assert figure.low == pytest.approx(2.0 - 2.920 / 3**0.5)
    assert over_seeds([1.0]).low is None


def test_an_interval_of_a_share_stays_within_0_and_1() -> None:
    whole = share(100, 100)
    assert whole.value == 1.0
    assert whole.high == 1.0
    assert whole.low == pytest.approx(0.9737, abs=1e-3)
    assert share(0, 0).value == 1.0


def test_attainment_is_no_surer_than_its_seeds() -> None:
    even, uneven = attainment([(95, 100)] * 3), attainment([(85, 100), (100, 100), (100, 100)])
    assert even.value == uneven.value == 0.95
    assert uneven.low is not None
    assert even.low is not None
    assert uneven.low < even.low
