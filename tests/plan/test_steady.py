"""Closed formulas against what they sum up, step by step."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from headway.plan.errors import PlanError
from headway.plan.steady import (
    closed_loop,
    decode_s,
    low_load_ttft_s,
    max_batch,
    max_throughput,
    prefill_s,
    static_batch,
    tpot_s,
)
from headway.plan.steptime import GpuMachine, machine
from headway.policy.stepshape import StepShape
from tests.plan.setups import setup


def stepwise(on: GpuMachine, clients: int, isl: int, osl: int, requests: int) -> tuple[float, float]:
    """Seconds a token and tokens a second of a closed loop, one step after the other: decodes first, then prompts in
    chunks with what is left of the step's tokens. Clients start at different places in their answers."""
    left = [osl * (place + 1) // clients for place in range(clients)]  # output tokens still to come; None: its prompt
    prompts: list[list[int]] = []  # [client, tokens computed]
    clock, tokens, gaps, ended, waiting_s = 0.0, 0, 0, 0, 0.0
    while ended < requests:
        decoding = [place for place in range(clients) if left[place] > 0]
        room = on.max_step_tokens - len(decoding)
        chunks = []
        for prompt in prompts:
            take = min(room, isl - prompt[1])
            if take:
                chunks.append((prompt, take))
                room -= take
        context = sum(isl + osl - left[place] for place in decoding)
        reads = sum(take * (prompt[1] + take / 2) for prompt, take in chunks)
        prompt_tokens = sum(take for _, take in chunks)
        step_s = on.step_s(StepShape(len(decoding) + prompt_tokens, len(decoding) + len(chunks), context, reads))
        clock += step_s
        gaps += len(decoding)
        waiting_s += step_s * len(decoding)
        tokens += len(decoding)
        for place in decoding:
            left[place] -= 1
            if not left[place]:
                ended += 1
                prompts.append([place, 0])
        for prompt, take in chunks:
            prompt[1] += take
        for prompt in [each for each in prompts if each[1] == isl]:
            prompts.remove(prompt)
            left[prompt[0]] = osl - 1
            tokens += 1
    return waiting_s / gaps, tokens / clock


@pytest.mark.parametrize(
    ("clients", "isl", "osl"), [(1, 500, 100), (8, 1000, 200), (64, 1000, 200), (32, 4000, 100), (128, 200, 400)]
)
def test_a_closed_loop_is_what_its_steps_add_up_to(clients: int, isl: int, osl: int) -> None:
    one = setup()
    on = machine(replace(one, engine=replace(one.engine, request_s=0.0)), 8192)
    found = closed_loop(on, clients, isl, osl)
    gap_s, rate = stepwise(on, clients, isl, osl, 6 * clients)
    assert found.tpot_s == pytest.approx(gap_s, rel=0.08)
    assert found.output_tokens_s == pytest.approx(rate, rel=0.08)


def test_a_static_batch_is_what_its_steps_add_up_to() -> None:
    on = machine(setup(engine="trtllm"))
    found = static_batch(on, 16, 512, 64)
    steps = [on.step_s(StepShape(8192, 16, 0, 16 * 512 * 256.0))]
    steps += [on.step_s(StepShape(16, 16, 16 * (512 + each), 0.0)) for each in range(1, 64)]
    assert found.e2e_s == pytest.approx(sum(steps), rel=0.01)
    assert found.output_tokens_s == pytest.approx(16 * 64 / sum(steps), rel=0.01)


def test_a_first_token_at_low_load() -> None:
    on = machine(setup(), 2048)
    whole = machine(setup(), 8192)
    assert low_load_ttft_s(whole, 4000) == pytest.approx(0.020 + whole.step_s(StepShape(4000, 1, 0, 4000 * 2000.0)))
    assert low_load_ttft_s(on, 4000) > low_load_ttft_s(whole, 4000)  # in two chunks
    assert low_load_ttft_s(on, 4000, cached=3900) < 0.5 * low_load_ttft_s(on, 4000)
    assert prefill_s(on, 4000, cached=4000) > 0.0  # the last token is computed anyway


def test_the_cache_bounds_the_batch() -> None:
    on = machine(setup("llama-3.1-70b", tp=4))
    held = max_batch(on, 1000, 1000)
    assert held == pytest.approx(on.memory.kv_tokens / 1500, rel=0.01)
    found = closed_loop(on, 3 * held, 1000, 1000)
    assert found.limit == "kv cache"
    assert found.decoding <= held
    assert found.ttft_s > 2 * found.tpot_s * 999  # they wait for the requests before them
    assert closed_loop(on, 4, 1000, 1000).limit == "load"
    reserving = machine(setup("llama-3.1-70b", tp=4, engine="trtllm"))
    assert max_batch(reserving, 1000, 1000) == pytest.approx(reserving.memory.kv_tokens / 2000, rel=0.01)


def test_the_number_of_sequences_bounds_the_batch() -> None:
    on = machine(setup())
    found = max_throughput(on, 50, 50, max_sequences=32)
    assert found.decoding <= 32
    assert max_throughput(on, 50, 50).output_tokens_s > 2 * found.output_tokens_s
    assert closed_loop(on, 5000, 20, 20).limit == "sequences"


def test_throughput_and_time_per_token_rise_with_concurrency() -> None:
    on = machine(setup())
    found = [closed_loop(on, clients, 1000, 500) for clients in (1, 4, 16, 64)]
    for fewer, more in itertools.pairwise(found):
        assert more.output_tokens_s > fewer.output_tokens_s
        assert more.tpot_s > fewer.tpot_s


def test_prompts_beside_decodes_lengthen_the_gaps() -> None:
    on = machine(setup())
    assert tpot_s(on, 32, 2000, 100) > 1.5 * decode_s(on, 32, 2050)
    assert tpot_s(on, 1, 2000, 100) == pytest.approx(decode_s(on, 1, 2050))


@pytest.mark.parametrize(("isl", "osl"), [(3000, 1), (3000, 2), (500, 3)])
def test_short_answers_are_bound_by_computing_prompts(isl: int, osl: int) -> None:
    on = machine(setup("llama-3.1-70b", tp=4))
    found = closed_loop(on, 300, isl, osl)
    prompts_s = found.output_tokens_s / osl
    computed = prompts_s * isl * 2 * 70e9 / 4
    assert 0.4 * 989e12 < computed < 0.65 * 989e12  # of the peak, no more than large products reach
    assert found.e2e_s > 1.0


def test_between_whole_batches() -> None:
    on = machine(setup())
    assert decode_s(on, 8, 100) < decode_s(on, 8.5, 100) < decode_s(on, 9, 100)


def test_what_the_cache_can_not_hold() -> None:
    on = machine(setup())
    with pytest.raises(PlanError, match=r"the KV cache holds .* sequences of 2000 tokens, not a batch of 5000"):
        static_batch(on, 5000, 1000, 1000)
    cramped = machine(setup(gpu="rtx-4090"))
    with pytest.raises(PlanError, match="doesn't hold one sequence of 60000 tokens"):
        closed_loop(cramped, 1, 50_000, 10_000)
