"""The threads that compute: everyone runs every region, nobody passes a barrier early, every piece is done once."""

from __future__ import annotations

import os
import sys

import pytest

from headway.engine import native

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))

TASKS = "/proc/self/task"


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("pieces", [1, 23])
def test_regions_barriers_and_shares(threads: int, pieces: int) -> None:
    """More threads than processors too: those that wait must give way."""
    assert native.make_pool(threads).exercise(regions=20, barriers=10, pieces=pieces) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc")
def test_threads_stay_where_they_are_told_to_and_end_with_the_pool() -> None:
    before = set(os.listdir(TASKS))
    cpu = max(os.sched_getaffinity(0))
    pool = native.make_pool(3, (0, cpu))
    pool.exercise(regions=1, barriers=1, pieces=1)
    mine = os.sched_getaffinity(0)
    theirs = sorted((os.sched_getaffinity(int(task)) for task in set(os.listdir(TASKS)) - before), key=len)
    assert theirs == sorted([{cpu}, mine], key=len)
    del pool
    assert set(os.listdir(TASKS)) <= before


def test_a_pool_has_a_thread() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        native.make_pool(0)
