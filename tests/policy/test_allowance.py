"""What a step may take, by count and by time."""

from __future__ import annotations

import pytest

from headway.policy.allowance import CHUNK_TOKENS_MIN, TimeAllowance, TokenAllowance
from tests.policy.promises import STEP_S, TOKEN_S, KnownModel


def step_s(tokens: int) -> float:
    return STEP_S + TOKEN_S * tokens


def time_allowance(tokens: int, *, deferrable: int | None = None, limit: int = 8192) -> TimeAllowance:
    """The time of a step of so many tokens."""
    time_s = step_s(tokens) + 1e-9
    return TimeAllowance(KnownModel(), limit, time_s, time_s if deferrable is None else step_s(deferrable) + 1e-9)


def test_a_number_of_tokens_is_shared_first_come_first_served() -> None:
    allowance = TokenAllowance(100)
    assert allowance.decodes([10] * 30, deferrable=False) == 30
    assert allowance.chunk(0, 50, deferrable=False) == 50
    assert allowance.chunk(0, 50, deferrable=True) == 20
    assert allowance.chunk(0, 50, deferrable=False) == allowance.decodes([10], deferrable=False) == 0
    assert allowance.tokens == 100


def test_with_prompts_first_no_decode_takes_part_beside_one() -> None:
    allowance = TokenAllowance(100, prompts_first=True)
    assert allowance.chunk(0, 5, deferrable=False) == 5
    assert allowance.decodes([10], deferrable=False) == 0
    assert TokenAllowance(100, prompts_first=True).decodes([10], deferrable=False) == 1


def test_a_time_is_filled_to_the_last_token_and_no_further() -> None:
    allowance = time_allowance(100)
    assert allowance.decodes([10] * 30, deferrable=False) == 30
    assert allowance.chunk(0, 1000, deferrable=False) == 70
    assert allowance.chunk(0, 1000, deferrable=False) == 0
    assert allowance.tokens == 100


def test_decodes_with_a_promise_take_part_whatever_the_time() -> None:
    allowance = time_allowance(1)
    assert allowance.decodes([10] * 30, deferrable=False) == 30
    assert allowance.chunk(0, 100, deferrable=False) == 0
    assert allowance.decodes([10], deferrable=True) == 0


def test_what_is_deferrable_has_a_time_of_its_own() -> None:
    allowance = time_allowance(100, deferrable=40)
    assert allowance.decodes([10] * 10, deferrable=False) == 10
    assert allowance.decodes([10] * 50, deferrable=True) == 30
    assert allowance.chunk(0, 100, deferrable=True) == 0
    assert allowance.chunk(0, 100, deferrable=False) == 60


def test_the_cap_holds_whatever_the_time() -> None:
    allowance = time_allowance(1000, limit=64)
    assert allowance.decodes([10] * 30, deferrable=False) == 30
    assert allowance.chunk(0, 1000, deferrable=False) == 34
    assert allowance.chunk(0, 1000, deferrable=False) == 0
    assert time_allowance(1, limit=16).decodes([10] * 30, deferrable=False) == 16


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_empty_step_always_takes_something(deferrable: bool) -> None:
    """There would be no end to it otherwise."""
    assert TimeAllowance(KnownModel(), 8192, 0.0, 0.0).chunk(0, 500, deferrable=deferrable) == CHUNK_TOKENS_MIN
    assert TimeAllowance(KnownModel(), 8192, 0.0, 0.0).chunk(0, 3, deferrable=deferrable) == 3
    assert TimeAllowance(KnownModel(), 8192, 0.0, 0.0).decodes([10] * 9, deferrable=True) == 1


def test_a_crumb_of_a_prompt_is_not_worth_a_place() -> None:
    allowance = time_allowance(30 + CHUNK_TOKENS_MIN - 1)
    allowance.decodes([10] * 30, deferrable=False)
    assert allowance.chunk(0, 500, deferrable=False) == 0
    assert allowance.chunk(0, 5, deferrable=False) == 5, "all of it is"


def test_what_is_there_counts_for_what_comes() -> None:
    class Quadratic(KnownModel):
        def tail_s(self, tokens: int, sequences: int, decode_context: int, prefill_reads: float) -> float:
            return 0.001 * sequences + 1e-5 * decode_context + 1e-6 * prefill_reads

    allowance = TimeAllowance(Quadratic(), 8192, 0.1, 0.1)
    allowance.decodes([1000] * 5, deferrable=False)
    first = allowance.chunk(100, 5000, deferrable=False)
    assert allowance.prefill_reads == first * (100 + first / 2)
    assert allowance.sequences == 6
    assert allowance.decode_context == 5000
    assert 0.099 < Quadratic().tail_s(0, 6, 5000, allowance.prefill_reads) <= 0.1
