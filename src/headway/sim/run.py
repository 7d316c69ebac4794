"""One machine in virtual time: a cluster of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

from headway.sim.clients import IMPATIENT, Client
from headway.sim.cluster import DRAIN_S, Cluster, Options, simulate_cluster
from headway.sim.faults import NO_FAULTS, Faults
from headway.sim.hardware import Hardware
from headway.sim.replica import MakeScheduler
from headway.sim.result import Recorder, Result, Window
from headway.sim.workload import Call, Workload

__all__ = ("DRAIN_S", "MakeScheduler", "Simulation", "simulate")


class ResultOptions(Options, total=False):
    """And of its result: see ``simulate_cluster``."""

    window: Window | None
    keep_gaps: bool


def simulate(
    workload: Workload, hardware: Hardware, make_scheduler: MakeScheduler, **options: Unpack[ResultOptions]
) -> Result:
    """Offer a workload to one machine, then let what is in come to its end: see ``simulate_cluster``."""
    return simulate_cluster(workload, [hardware], [make_scheduler], **options)


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
