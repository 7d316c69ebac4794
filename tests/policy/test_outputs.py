"""How long answers are expected to get."""

from __future__ import annotations

from statistics import fmean

import pytest

from headway.policy.outputs import ENOUGH, KEPT, OutputLengths
from headway.policy.request import Request
from tests.policy.promises import promised, request


def so_far(output_tokens: int, order: int = 0) -> Request:
    made = request(promised(f"r{order}", max_tokens=10_000), order)
    made.tokens += [1] * output_tokens
    return made


def seen(*lengths: int) -> OutputLengths:
    outputs = OutputLengths()
    for length in lengths:
        outputs.observe("conversational", length)
    return outputs


def test_nothing_is_expected_of_a_class_of_which_little_was_seen() -> None:
    assert OutputLengths().expected(so_far(0)) is None
    assert seen(*range(1, ENOUGH)).expected(so_far(0)) is None
    assert seen(*range(1, ENOUGH + 1)).expected(so_far(0)) is not None


def test_what_is_expected_was_seen_and_is_longer_than_what_is_there() -> None:
    outputs = seen(*range(10, 110))
    for tokens in (0, 9, 10, 50, 108):
        for order in range(50):
            expected = outputs.expected(so_far(tokens, order))
            assert expected is not None
            assert max(tokens, 9) < expected < 110
    assert outputs.expected(so_far(109)) is None, "none was longer"


def test_together_they_are_distributed_as_those_seen() -> None:
    outputs = seen(*range(100))
    expected = [outputs.expected(so_far(0, order)) or 0 for order in range(1000)]
    assert fmean(expected) == pytest.approx(50, abs=2)
    assert min(expected) <= 2
    assert max(expected) >= 98


def test_the_same_request_is_always_expected_to_get_as_long() -> None:
    outputs = seen(*range(100))
    assert len({outputs.expected(so_far(3, order=7)) for _ in range(10)}) == 1


def test_classes_are_apart_and_what_is_old_is_forgotten() -> None:
    outputs = seen(*[1000] * KEPT)
    for _ in range(ENOUGH):
        outputs.observe("batch", 5)
    assert outputs.expected(so_far(0)) == 1000
    for _ in range(KEPT):
        outputs.observe("conversational", 7)
    assert outputs.expected(so_far(0)) == 7
    assert outputs.expected(so_far(7)) is None


def test_how_many_end_before_a_length() -> None:
    outputs = seen(*range(1, 101))
    assert outputs.share_ending_before(so_far(0), 21) == 0.2
    assert outputs.share_ending_before(so_far(10), 21) == pytest.approx(10 / 90), "of those that get so far"
    assert outputs.share_ending_before(so_far(30), 21) == 0.0
    assert outputs.share_ending_before(so_far(100), 200) is None, "none was longer"
    assert seen(*range(1, ENOUGH)).share_ending_before(so_far(0), 21) is None
