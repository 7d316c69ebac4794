"""Batch, queue and KV use over time: samples at equal distances of virtual time."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from headway.sim.replica import Replica

MOMENTS_MAX = 4096


class Timeline:
    """What every replica does, looked at every ``every_s`` from 0 on.

    The columns ``at_s``, ``replica``, ``running``, ``waiting`` (requests), ``batch`` (sequences in the step in flight,
    0 where none is) and ``kv_used`` (share of the KV blocks that running requests hold) are of equal length. Bounded:
    after ``MOMENTS_MAX`` moments every other one is dropped, and ``every_s`` doubles.
    """

    def __init__(self, every_s: float) -> None:
        if not 0.0 < every_s < float("inf"):
            raise ValueError(f"a timeline needs some time between its samples, not {every_s} s")
        self.every_s = every_s
        self.at_s = array("d")
        self.replica = array("l")
        self.running = array("l")
        self.waiting = array("l")
        self.batch = array("l")
        self.kv_used = array("d")
        self._moments = 0

    def look(self, now: float, replicas: Sequence[Replica]) -> None:
        """Take a sample of each. To be called ``every_s`` apart."""
        for replica in replicas:
            replica.settle(now)
            scheduler = replica.scheduler
            step, pool = scheduler.in_flight, scheduler.cache.pool
            self.at_s.append(now)
            self.replica.append(replica.index)
            self.running.append(len(scheduler.running))
            self.waiting.append(len(scheduler.waiting))
            self.batch.append(step.shape.sequences if step is not None else 0)
            self.kv_used.append(pool.referenced / pool.total)
        self._moments += 1
        if self._moments == MOMENTS_MAX:
            self._thin_out(len(replicas))

    def _thin_out(self, replicas: int) -> None:
        kept = [i for i in range(len(self.at_s)) if i // replicas % 2 == 0]
        for numbers in (self.replica, self.running, self.waiting, self.batch):
            numbers[:] = array("l", [numbers[i] for i in kept])
        for values in (self.at_s, self.kv_used):
            values[:] = array("d", [values[i] for i in kept])
        self._moments = len(kept) // replicas
        self.every_s *= 2.0
