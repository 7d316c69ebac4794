"""What can be told of a question before anything is searched: that it would come to nothing, or fail at its end."""

from __future__ import annotations

from headway.plan.candidate import setups
from headway.plan.errors import PlanError
from headway.plan.load import Demand
from headway.plan.question import TENSOR_PARALLEL, Question
from headway.plan.records import percent
from headway.plan.setup import is_measured


def check(question: Question) -> None:
    """Raises ``PlanError``."""
    _check_lengths(question, question.demand, f"--workload {question.demand.name}")
    for change in question.changes:
        _check_lengths(question, change.of(question.demand), f"--what-if {change.text}")
    _check_set_ups(question)
    _check_calibration(question)


def _check_lengths(question: Question, demand: Demand, where: str) -> None:
    """Requests beyond the model's context are refused, whatever serves them."""
    context, name = question.model.context_tokens, question.model.name
    share = demand.too_long(context)
    if share > 1.0 - question.target:
        raise PlanError(
            f"{where}: {percent(share)} of the requests are longer than the {context:,} tokens of {name}'s context, "
            "which refuses them; plan for shorter ones, or a model with a longer context"
        )


def _check_set_ups(question: Question) -> None:
    if any(setups(question)):
        return
    asked = ", ".join(map(str, question.tensor_parallel or ()))
    sizes = ", ".join(str(size) for size in TENSOR_PARALLEL if question.model.splits_over(size))
    joined = max(gpu.link.most for gpu in question.gpus)
    raise PlanError(
        f"--tp {asked} leaves no set-up: {question.model.name} splits over {sizes}, a link joins {joined} of the GPUs, "
        f"and --max-gpus is {question.max_gpus}"
    )


def _check_calibration(question: Question) -> None:
    """One that none of the set-ups was measured with would be left unused in silence."""
    given = question.calibration
    if given.gpu and not any(is_measured(setup, given) for setup in setups(question)):
        kv = f" --kv-precision {given.kv_precision}" if given.kv_precision is not question.kv_precision else ""
        raise PlanError(
            f"--calibration was measured with {given.model} in {given.precision} on {given.tp} x {given.gpu}, and none "
            f"of the set-ups is that: --gpu {given.gpu} --tp {given.tp} --precision {given.precision}{kv} would be"
        )
