"""Who kept what was promised: counts by class, from the policy's own times."""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.policy.request import Request


@dataclass(slots=True)
class ClassCounters:
    """What happened to the requests that asked for one class; none ever falls.

    ``offered`` = ``refused`` (at the door) + ``shed`` (later, before anything was computed for them) + ``demoted`` +
    those served as asked: ``in_slo``, ``late_ttft``, ``late_itl``, ``late_e2e`` (each late one counted once, by what
    came first), ``unfinished`` (they failed, expired or were aborted) and those still here.
    """

    offered: int = 0
    refused: int = 0
    shed: int = 0
    demoted: int = 0
    in_slo: int = 0
    late_ttft: int = 0
    late_itl: int = 0
    late_e2e: int = 0
    unfinished: int = 0

    @property
    def late(self) -> int:
        return self.late_ttft + self.late_itl + self.late_e2e

    @property
    def attainment(self) -> float:
        """Share in SLO of those offered whose fate is known; 1 if there are none. A demoted request is a miss."""
        known = self.refused + self.shed + self.demoted + self.in_slo + self.late + self.unfinished
        return self.in_slo / known if known else 1.0

    @property
    def admitted_attainment(self) -> float:
        """The same of those that were served as asked."""
        known = self.in_slo + self.late
        return self.in_slo / known if known else 1.0


@dataclass(slots=True)
class Ledger:
    classes: dict[str, ClassCounters] = field(default_factory=dict)

    def of(self, name: str) -> ClassCounters:
        counters = self.classes.get(name)
        if counters is None:
            counters = self.classes[name] = ClassCounters()
        return counters

    def ended(self, now: float, request: Request, *, complete: bool) -> None:
        """A request that was let in has ended, with all its tokens or not. One that was demoted has been counted."""
        if request.service_class != request.spec.service_class:
            return
        counters = self.of(request.service_class)
        if not complete:
            counters.unfinished += 1
            return
        match request.broken(now):
            case None:
                counters.in_slo += 1
            case "ttft":
                counters.late_ttft += 1
            case "itl":
                counters.late_itl += 1
            case "e2e":
                counters.late_e2e += 1
