"""Who kept what was promised: counts by class, from the policy's own times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum

from headway.policy.request import Request, RequestSpec


class Denial(StrEnum):
    """What becomes of a request that is not served as asked."""

    REFUSED = "refused"  # at the door
    SHED = "shed"  # later, before anything was computed for it
    DEMOTED = "demoted"


LATE = "late"
"""Why one that was let in is denied its promise: it can't be on time any more. At the door it is a ``RejectReason``."""


@dataclass(slots=True)
class ClassCounters:
    """What happened to the requests that asked for one class; none ever falls.

    ``offered`` = ``refused`` + ``shed`` + ``demoted`` (together ``denied``, by that and the reason) + those served as
    asked: ``in_slo``, ``late_ttft``, ``late_itl``, ``late_e2e`` (each late one counted once, by what came first),
    ``unfinished`` (they failed, expired or were aborted) and those still here.
    """

    offered: int = 0
    denied: Counter[tuple[Denial, str]] = field(default_factory=Counter)
    in_slo: int = 0
    late_ttft: int = 0
    late_itl: int = 0
    late_e2e: int = 0
    unfinished: int = 0

    @property
    def refused(self) -> int:
        return self._denied(Denial.REFUSED)

    @property
    def shed(self) -> int:
        return self._denied(Denial.SHED)

    @property
    def demoted(self) -> int:
        return self._denied(Denial.DEMOTED)

    @property
    def late(self) -> int:
        return self.late_ttft + self.late_itl + self.late_e2e

    def copy(self) -> ClassCounters:
        return replace(self, denied=self.denied.copy())

    def _denied(self, denial: Denial) -> int:
        return sum(count for (each, _), count in self.denied.items() if each is denial)


@dataclass(slots=True)
class Ledger:
    classes: dict[str, ClassCounters] = field(default_factory=dict)

    def of(self, name: str) -> ClassCounters:
        counters = self.classes.get(name)
        if counters is None:
            counters = self.classes[name] = ClassCounters()
        return counters

    def deny(self, request: RequestSpec, denial: Denial, reason: str) -> None:
        self.of(request.service_class).denied[denial, reason] += 1

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
