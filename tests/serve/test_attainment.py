"""Whether a promise was kept, as the client saw it."""

from __future__ import annotations

import pytest

from headway.policy.sampling import SamplingParams
from headway.policy.slo import CONVERSATIONAL, Objective, ServiceClasses
from headway.serve.attainment import SloOutcome, slo_outcome
from headway.serve.choices import Choice
from headway.serve.errors import ANSWERS, Reason
from headway.serve.promise import Promise
from headway.serve.replies import ChatFormat
from headway.serve.reply import Build, Reply
from headway.serve.telemetry import Telemetry
from tests.fakes import FakeDetokenizer, FakeText

OBJECTIVE = Objective(ttft_s=0.3, itl_s=0.1, e2e_s=5.0)


def reply(objective: Objective = OBJECTIVE, *, demoted: bool = False) -> Reply:
    """A request that came at 100 s."""
    choice = Choice("r", 0, SamplingParams(), FakeDetokenizer(()), FakeText(), stream=False, counts_prompt=True)
    form = ChatFormat("id", 1, "m")
    build = Build(
        form,
        [choice],
        stream=False,
        include_usage=False,
        continuous_usage=False,
        prompt_tokens=1,
        service_class="conversational",
    )
    if demoted:
        build.demote("batch", "flex")
    return Reply(build, Promise(CONVERSATIONAL, objective, False, None, ServiceClasses()), received_s=100.0)


def outcome_of(each: Reply, times_s: list[float], now: float | None = None) -> SloOutcome | None:
    """The outcome of a request whose tokens were written out at these times."""
    telemetry = Telemetry(ServiceClasses())
    [choice] = each.build.choices
    for at_s in times_s:
        telemetry.record_tokens(at_s, each, choice, 1)
        choice.output_tokens += 1
    return slo_outcome(each, "length", times_s[-1] if now is None else now)


def steady(count: int, gap_s: float, first_s: float = 100.2) -> list[float]:
    return [first_s + index * gap_s for index in range(count)]


@pytest.mark.parametrize(
    ("times_s", "expected"),
    [
        (steady(21, 0.09), SloOutcome.IN_SLO),
        (steady(21, 0.09, 100.31), SloOutcome.LATE_TTFT),
        (steady(21, 0.11), SloOutcome.LATE_ITL),
        (steady(60, 0.09), SloOutcome.LATE_E2E),
        ([100.2], SloOutcome.IN_SLO),
        ([100.2, 100.4], SloOutcome.LATE_ITL),
        ([*steady(20, 0.05), 101.4], SloOutcome.IN_SLO),  # one late gap of 20 is 5 %
        ([*steady(19, 0.05), 101.4], SloOutcome.LATE_ITL),
    ],
)
def test_each_part_of_a_promise_can_be_broken(times_s: list[float], expected: SloOutcome) -> None:
    assert outcome_of(reply(), times_s) is expected


def test_where_nothing_is_promised_all_that_ends_well_is_in_slo() -> None:
    assert outcome_of(reply(Objective()), [400.0, 500.0]) is SloOutcome.IN_SLO


def test_a_demoted_request_is_a_miss_even_if_it_was_in_time() -> None:
    assert outcome_of(reply(demoted=True), [100.1]) is SloOutcome.DEMOTED
    assert outcome_of(reply(demoted=True), [101.0]) is SloOutcome.DEMOTED


def test_an_answer_without_a_visible_token_has_its_end_for_a_first_token() -> None:
    assert slo_outcome(reply(), "stop", 100.2) is SloOutcome.IN_SLO
    assert slo_outcome(reply(), "stop", 100.4) is SloOutcome.LATE_TTFT


@pytest.mark.parametrize("reason", list(Reason))
def test_errors_count_unless_they_are_the_callers_mistake(reason: Reason) -> None:
    outcome = slo_outcome(reply(), reason.value, 100.0)
    ours = ANSWERS[reason].status in (429, 499, 500, 503, 504) or reason is Reason.IMPOSSIBLE
    assert (outcome is not None) is (ours and reason is not Reason.TOO_MANY_CONNECTIONS)


def test_abandoned_requests_are_no_part_of_attainment() -> None:
    telemetry = Telemetry(ServiceClasses())
    telemetry.record_outcome(100.1, "/route", "length", reply())
    telemetry.record_outcome(100.1, "/route", "overloaded", reply())
    telemetry.record_outcome(100.1, "/route", "client_closed_request", reply())
    telemetry.record_outcome(100.1, "/route", "invalid_json", None)
    conversational = telemetry.classes["conversational"]
    assert conversational.attainment(100.1) == (0.5, 2)
    assert conversational.outcomes[SloOutcome.ABANDONED] == 1


def test_targets_are_bucket_edges() -> None:
    telemetry = Telemetry(ServiceClasses().with_objective("conversational", Objective(ttft_s=0.123, itl_s=0.0456)))
    for each in telemetry.classes.values():
        assert 0.123 in each.latencies["ttft"].histogram.bounds
        assert 0.0456 in each.latencies["itl"].histogram.bounds
    assert sum(telemetry.all_classes("ttft").counts) == 0
