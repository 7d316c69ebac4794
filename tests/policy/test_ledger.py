"""Each request is counted once, for what became of it."""

from __future__ import annotations

from headway.policy.controller import PromisePolicy
from headway.policy.events import Demoted, Finished, FinishReason
from headway.policy.invariants import check_ledger
from headway.policy.ledger import ClassCounters, Denial, Ledger
from headway.policy.request import Request
from headway.policy.slo import ServiceClasses
from tests.policy.promises import KnownModel, Machine, promised, request, scheduler


def answered(
    *token_times: float, ttft_s: float | None = 1.0, itl_s: float | None = 0.1, e2e_s: float | None = None
) -> Request:
    """A request that came at 0 and got tokens at these times, as the scheduler would have noted them."""
    made = request(promised("r", ttft_s=ttft_s, itl_s=itl_s, e2e_s=e2e_s))
    for at_s in token_times:
        if made.told == 0:
            made.first_token_s = at_s
        elif itl_s is not None and at_s - made.last_token_s > itl_s:
            made.late_gaps += 1
        made.told += 1
        made.last_token_s = at_s
    return made


def counted(made: Request, now: float) -> ClassCounters:
    ledger = Ledger()
    ledger.of("conversational").offered += 1
    ledger.ended(now, made, complete=True)
    return ledger.of("conversational")


def test_on_time_is_in_slo() -> None:
    assert counted(answered(0.9, 0.95, 1.0), 1.0).in_slo == 1


def test_a_late_one_is_counted_once_by_what_was_late_first() -> None:
    assert counted(answered(1.1, 9.0, e2e_s=2.0), 9.0).late_ttft == 1
    assert counted(answered(0.5, 0.9, e2e_s=0.8), 0.9).late_itl == 1
    assert counted(answered(0.5, 0.6, e2e_s=0.8), 0.9).late_e2e == 1
    assert counted(answered(1.1, 9.0, e2e_s=2.0), 9.0).late == 1


def test_one_gap_in_twenty_may_be_late() -> None:
    times = [0.01 * number for number in range(20)]
    assert counted(answered(*times, 0.6), 0.6).in_slo == 1, "the twentieth gap is late"
    assert counted(answered(*times[:-1], 0.6), 0.6).late_itl == 1, "one of nineteen is more"


def test_no_promise_is_always_kept() -> None:
    assert counted(answered(50.0, 99.0, ttft_s=None, itl_s=None), 100.0).in_slo == 1


def machine() -> Machine:
    return Machine(scheduler(PromisePolicy(KnownModel(), ServiceClasses())))


def test_who_is_not_served_as_asked_is_counted_by_class_and_reason() -> None:
    """Refusals were counted by reason for all classes together, and by class without the reason: a dashboard could
    not tell a class that is short of capacity from one whose promise is impossible here."""
    world = machine()
    world.submit(promised("huge", 4000, ttft_s=0.3), promised("huge too", 4000, ttft_s=0.3, may_demote=True))
    world.submit(promised("late", 400, ttft_s=0.5))
    world.now += 1.0  # the machine stood still
    world.run()
    check_ledger(world.scheduler)
    counters = world.scheduler.ledger.of("conversational")
    assert counters.denied == {
        (Denial.REFUSED, "objective_impossible"): 1,
        (Denial.DEMOTED, "objective_impossible"): 1,
        (Denial.SHED, "late"): 1,
    }
    assert (counters.refused, counters.demoted, counters.shed) == (1, 1, 1)
    seen = world.scheduler.stats(world.now).classes["conversational"]
    world.submit(promised("huge again", 4000, ttft_s=0.3))
    assert (seen.refused, counters.refused) == (1, 2), "what was read does not change"


def test_a_demoted_one_is_counted_as_demoted_whatever_becomes_of_it() -> None:
    """Batch was not offered it, so nothing of it is counted there."""
    for ending in (FinishReason.LENGTH, FinishReason.ABORTED):
        world = machine()
        world.submit(promised("late", ttft_s=0.001, may_demote=True))
        assert world.of(Demoted) == [Demoted("late", "batch")]
        if ending is FinishReason.ABORTED:
            world.scheduler.abort(world.now, "late")
        else:
            world.run()
        check_ledger(world.scheduler)
        classes = world.scheduler.ledger.classes
        assert (classes["conversational"].offered, classes["conversational"].demoted) == (1, 1)
        assert "batch" not in classes or classes["batch"] == ClassCounters()


def test_whoever_is_here_when_all_ends_is_unfinished() -> None:
    world = machine()
    world.submit(promised("running"), promised("waiting"))
    world.step()
    events = world.scheduler.end_all(world.now, FinishReason.FAILED, "the engine has stopped")
    assert {event.request_id for event in events if isinstance(event, Finished)} == {"running", "waiting"}
    check_ledger(world.scheduler)
    assert world.scheduler.ledger.of("conversational").unfinished == 2
