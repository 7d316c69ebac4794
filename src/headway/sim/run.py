"""One machine in virtual time: a cluster of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from headway.sim.arrivals import Load
from headway.sim.clients import IMPATIENT, Client
from headway.sim.cluster import DRAIN_S, Cluster, simulate_cluster
from headway.sim.faults import NO_FAULTS, Faults
from headway.sim.hardware import Hardware
from headway.sim.replica import MakeScheduler
from headway.sim.result import Recorder, Result, Window
from headway.sim.timeline import Timeline
from headway.sim.workload import Call, Workload

__all__ = ("DRAIN_S", "MakeScheduler", "Simulation", "simulate")


def simulate(
    workload: Workload,
    hardware: Hardware,
    make_scheduler: MakeScheduler,
    *,
    rate: float | Load,
    seconds: float,
    seed: int = 0,
    client: Client = IMPATIENT,
    faults: Faults = NO_FAULTS,
    window: Window | None = None,
    keep_gaps: bool = True,
    timeline: Timeline | None = None,
    step_by_step: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> Result:
    """Offer ``rate`` requests a second for ``seconds`` of virtual time to one machine, then let what is in come to its
    end: see ``simulate_cluster``."""
    return simulate_cluster(
        workload,
        [hardware],
        [make_scheduler],
        rate=rate,
        seconds=seconds,
        seed=seed,
        client=client,
        faults=faults,
        window=window,
        keep_gaps=keep_gaps,
        timeline=timeline,
        step_by_step=step_by_step,
        on_progress=on_progress,
    )


class Simulation(Cluster):
    """A cluster of one, for who has calls of its own."""

    def __init__(
        self,
        calls: Iterator[Call],
        hardware: Hardware,
        make_scheduler: MakeScheduler,
        recorder: Recorder,
        *,
        seed: int,
        client: Client = IMPATIENT,
        faults: Faults = NO_FAULTS,
    ) -> None:
        super().__init__(calls, [hardware], [make_scheduler], recorder, seed=seed, client=client, faults=faults)
