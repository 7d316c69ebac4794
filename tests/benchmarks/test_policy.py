"""The benchmarks in virtual time: every part runs, and what it hands back is flat, named and sane."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, TypeVar

import pytest

from benchmarks import policy
from benchmarks.policy import ablation, capacity, cost, overload, setting, slack, trial
from benchmarks.policy.capacity import Searched
from benchmarks.policy.figures import Figure
from benchmarks.policy.pool import Pool
from benchmarks.policy.setting import HEADWAY, Case
from benchmarks.policy.trial import Scale, Trials
from headway.policy.steptime import StepTimeModel
from headway.sim.hardware import HARDWARE
from headway.simulate import calibrated

T = TypeVar("T")

TINY = Scale(calls=24, seconds=0.0, seeds=(1,))


class InOneProcess(Pool):
    def __init__(self) -> None:
        super().__init__(1)

    def map(self, work: Callable[..., T], tasks: Iterable[tuple[Any, ...]]) -> list[T]:
        return [work(*task) for task in tasks]


@pytest.fixture(scope="module")
def h100() -> StepTimeModel:
    return calibrated(HARDWARE["h100-llama-8b"])


@pytest.fixture(autouse=True)
def tiny(h100: StepTimeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything so short that it takes a second or two, and its figures say nothing."""
    monkeypatch.setattr(setting, "calibrated", lambda hardware: h100)
    for module in (ablation, capacity, overload, slack):
        monkeypatch.setattr(module, "QUICK", TINY)
    monkeypatch.setattr(ablation, "QUICK_WORKLOADS", ("chat",))
    monkeypatch.setattr(ablation, "STATIC", (1024,))
    monkeypatch.setattr(capacity, "QUICK_WORKLOADS", ("chat",))
    monkeypatch.setattr("headway.sim.capacity.WIDENINGS_MAX", 1)  # so few calls are kept at any rate
    monkeypatch.setattr(trial, "TOLERANCE", 0.3)
    for module in (overload, slack):
        monkeypatch.setattr(module, "capacity_of", lambda workload, scale: 20.0)
    monkeypatch.setattr(overload, "EXPERIMENT_CALLS", 30)
    monkeypatch.setattr(overload, "TABLE", {("experiment", 18.0): 17.5, ("bursty-experiment", 45.0): 32.8})
    monkeypatch.setattr(overload, "PROCESSES", {"poisson": "chat"})
    monkeypatch.setattr(overload, "CLIFF_SECONDS", {True: 1.0})
    monkeypatch.setattr(overload, "STAGES_S", (1.0, 1.0, 2.0))
    monkeypatch.setattr(overload, "NORMAL_S", dict.fromkeys(overload.PROCESSES, 0.5))
    monkeypatch.setattr(slack, "SECONDS", {True: 3.0})
    monkeypatch.setattr(slack, "SHARES", (0.3, 0.9))
    monkeypatch.setattr(slack, "STEP_TOKENS", (8192,))
    monkeypatch.setattr(cost, "POINTS", ((64, 0, "batch"), (64, 8, "conversational")))
    monkeypatch.setattr(cost, "STEPS", {True: 150})
    monkeypatch.setattr(cost, "OUTPUT_TOKENS", (100, 200))
    monkeypatch.setattr(cost, "WARM_UP_STEPS", 2)


def checked(figures: dict[str, Figure]) -> dict[str, Figure]:
    for name, value in figures.items():
        assert name.isprintable()
        assert " " not in name
        assert value is None or isinstance(value, str) or (isfinite(value) and value >= 0), (name, value)
        if name.endswith(("share", "attainment", "attainment_admitted", "taken")):
            assert value is None or (isinstance(value, int | float) and value <= 1), (name, value)
    return figures


def positive(value: Figure) -> bool:
    return isinstance(value, int | float) and value > 0


def test_capacity_is_that_of_every_policy_and_of_the_best_static_setting() -> None:
    figures = checked(capacity.measure(quick=True, pool=InOneProcess()))
    key = "h100-llama-8b_chat"
    for name in ("headway", "aimd", "vllm_256x2048", "prefill_first_256x2048"):
        assert positive(figures[f"{key}_capacity_{name}"])
    best = figures[f"{key}_best_static"]
    assert positive(figures[f"{key}_capacity_{best}"])
    assert positive(figures[f"{key}_headway_over_best_static"])
    assert figures[f"{key}_unfinished_at_capacity"] == 0
    assert figures["h100-llama-8b_best_single"] in str(figures["h100-llama-8b_best_single_of"]).split()


def test_overload_tells_of_the_experiment_the_cliff_and_the_way_back() -> None:
    figures = checked(overload.measure(quick=True, pool=InOneProcess()))
    assert positive(figures["experiment_18_headway_goodput"])
    for process in overload.PROCESSES:
        assert positive(figures[f"cliff_{process}_capacity"])
        assert figures[f"cliff_{process}_1x_headway_goodput_over_capacity"] == 1.0
        assert f"cliff_{process}_2x_fair_over_headway" in figures
        assert f"recovery_{process}_vllm_256x2048_normal_after_s" in figures


def test_slack_holds_batch_work_against_what_is_left() -> None:
    figures = checked(slack.measure(quick=True, pool=InOneProcess()))
    assert positive(figures["slack_batch_alone_headway_tok_s"])
    taken = [figures[f"slack_{share}_taken"] for share in (30, 90)]
    assert positive(taken[0])
    assert taken == sorted(taken, key=str)
    for share in (30, 90):
        assert positive(figures[f"slack_{share}_batch_tok_s"])
        assert positive(figures[f"slack_{share}_batch_over_strict_bound"])


def test_cost_is_measured() -> None:
    figures = checked(cost.measure(quick=True, pool=InOneProcess()))
    assert positive(figures["cost_64_running_0_batch_waiting_median_us"])
    assert figures["cost_64_running_0_batch_waiting_over_64_running"] == 1.0
    assert positive(figures["cost_64_running_8_conversational_waiting_over_none_waiting"])


def test_ablation_names_every_part() -> None:
    figures = checked(ablation.measure(quick=True, pool=InOneProcess()))
    for name in ("static", "aimd", "budget", "and_order", "and_admission", "headway"):
        assert positive(figures[f"ablation_chat_{name}_capacity"])
        assert f"ablation_chat_{name}_goodput_2x" in figures


def test_the_command_states_the_hardware_and_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    policy.add_arguments(parser)
    monkeypatch.setattr(policy, "Pool", lambda jobs: InOneProcess())
    figures = policy.run(parser.parse_args(["cost", "--quick"]))
    assert figures["scale"] == "quick"
    assert "hardware_h100-llama-8b" in figures


def test_where_no_load_is_kept_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A capacity of 0 ended the whole benchmark with a division by zero, an hour after its start."""
    monkeypatch.setattr(Trials, "capacity", lambda *bounds: 0.0)
    for module in (overload, slack):
        monkeypatch.setattr(module, "capacity_of", lambda workload, scale: 0.0)
    assert "slack_30_taken" not in checked(slack.measure(quick=True, pool=InOneProcess()))
    figures = checked(overload.measure(quick=True, pool=InOneProcess()))
    assert figures["cliff_poisson_capacity"] == 0.0
    assert not any(name.startswith(("cliff_poisson_1x", "recovery")) for name in figures)
    figures = checked(ablation.measure(quick=True, pool=InOneProcess()))
    assert figures["ablation_chat_headway_goodput_2x"] == 0.0
    figures = checked(capacity.measure(quick=True, pool=InOneProcess()))
    assert figures["h100-llama-8b_chat_headway_over_best_static"] is None
    assert figures["h100-llama-8b_best_single_of_best_static"] == 0.0


def test_a_rush_to_which_nobody_comes_has_no_shares() -> None:
    figures = checked(overload.recover("poisson", HEADWAY, 1e-6))
    assert figures["recovery_poisson_headway_rush_in_slo_share"] is None
    assert figures["recovery_poisson_headway_rush_tries_a_call"] is None
    assert figures["recovery_poisson_headway_normal_after_s"] is None, "where nobody comes, nothing is normal"


def test_a_run_without_calls_in_its_window_is_refused() -> None:
    with pytest.raises(ValueError, match="none comes in the window"):
        Trials(Case("h100-llama-8b", "chat"), HEADWAY, Scale(calls=1, seconds=0.0, seeds=tuple(range(9))))


def test_the_best_single_setting_is_by_its_mean_share_of_the_best_for_each() -> None:
    chat, mixed = (Case("h100-llama-8b", name) for name in ("chat", "mixed"))
    rates = {"static_64x512": (8.0, 1.0), "static_64x2048": (6.0, 4.0), "static_256x2048": (6.0, 2.0)}
    found = [
        Searched(case, {"headway": 8.0}, {name: each[at] for name, each in rates.items()}, {}, 0.0, 0)
        for at, case in enumerate((chat, mixed))
    ]
    figures = capacity._single(found, TINY, InOneProcess())
    assert figures["h100-llama-8b_best_single"] == "static_64x2048"
    assert figures["h100-llama-8b_best_single_of_best_static"] == round((6 / 8) ** 0.5, 3)
    assert figures[f"{mixed}_headway_over_best_single"] == 2.0
