"""What the cases of load share: a small machine in virtual time, under the policy that keeps promises.

The machine is the simulator's two-core processor and chat is cut to a sixteenth, with promises twice as long: in-SLO
capacity is about ``CAPACITY`` requests a second, and a minute takes a fraction of a second.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from headway.policy.controller import PromisePolicy
from headway.policy.plan import Executor, ExecutorInfo
from headway.policy.policies import build
from headway.policy.policy import Policy
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import CONVERSATIONAL, ServiceClass, ServiceClasses
from headway.policy.steptime import StepTimeModel
from headway.sim.arrivals import Load
from headway.sim.clients import IMPATIENT, Client
from headway.sim.faults import NO_FAULTS, Faults
from headway.sim.hardware import HARDWARE, LinearHardware
from headway.sim.record import Record
from headway.sim.result import Result, Window
from headway.sim.run import simulate
from headway.sim.workload import Workload, scale_objective
from headway.sim.workloads import named
from headway.simulate import calibrated
from tests.policy.promises import KnownModel

MACHINE = cast(LinearHardware, HARDWARE["cpu-smollm2-135m"])
CHAT = named("chat").scaled(lengths=1 / 16, promise=2.0)
CLASSES = ServiceClasses(
    [ServiceClass(name=CONVERSATIONAL.name, objective=scale_objective(CONVERSATIONAL.objective, 2.0))]
)
CAPACITY = 8.0


@cache
def _measured() -> str:
    return calibrated(MACHINE).to_json()


def make(info: ExecutorInfo) -> Scheduler:
    model = StepTimeModel.from_json(_measured())
    return Scheduler(
        info, SchedulerConfig(), prefix_key=b"tests", policy=build("headway", model=model, classes=CLASSES)
    )


def offered(
    load: float | Load,
    seconds: float,
    *,
    workload: Workload = CHAT,
    client: Client = IMPATIENT,
    faults: Faults = NO_FAULTS,
    seed: int = 1,
) -> Result:
    """All calls count, from the first to the last."""
    window = Window(0.0, seconds)
    return simulate(
        workload, MACHINE, make, rate=load, seconds=seconds, client=client, faults=faults, seed=seed, window=window
    )


def knowing(executor: Executor, info: ExecutorInfo) -> Policy:
    """A server's policy that takes its engine to be the machine of ``tests.policy.promises``."""
    return PromisePolicy(KnownModel(), ServiceClasses())


def share_in_slo(records: list[Record], *, admitted: bool = False) -> float:
    """Of those offered, or of those admitted."""
    those = [each for each in records if each.admitted or not admitted]
    return sum(each.in_slo for each in those) / len(those)


def between(result: Result, start_s: float, end_s: float) -> list[Record]:
    """The calls that came in that time."""
    return [each for each in result.records if start_s <= each.arrived_s < end_s]
