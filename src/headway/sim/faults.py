"""What goes wrong in a run: named faults at given times, or a swarm of them drawn from a seed.

The numbers of cases are those of the project's list of faults: 23 is slow steps and outliers, 25 clients that leave,
31 a worker that is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class SlowSteps:
    """Steps that begin from ``from_s`` to ``to_s`` take ``factor`` times as long: heat, or a noisy neighbour."""

    from_s: float
    to_s: float
    factor: float


@dataclass(frozen=True, slots=True)
class Outlier:
    """The first step that begins at ``at_s`` or later takes ``factor`` times as long."""

    at_s: float
    factor: float


@dataclass(frozen=True, slots=True)
class LostWorker:
    """The worker is gone at ``at_s``, with its cache and the step in flight; ``down_s`` later there is another."""

    at_s: float
    down_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """``abort_share`` of all requests are left by their clients, after an exponential time of mean ``abort_mean_s``."""

    slow: tuple[SlowSteps, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    lost: tuple[LostWorker, ...] = ()
    abort_share: float = 0.0
    abort_mean_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.abort_share <= 1.0:
            raise ValueError(f"abort_share must be from 0 to 1, not {self.abort_share}")
        factors = [slow.factor for slow in self.slow] + [outlier.factor for outlier in self.outliers]
        if min(factors, default=1.0) <= 0.0 or self.abort_mean_s <= 0.0:
            raise ValueError("factors and abort_mean_s must be above 0")


NO_FAULTS = Faults()


def swarm(random: Random, seconds: float) -> Faults:
    """Some faults, or none, within ``seconds``: each kind is on in half of the draws, so kinds meet in all ways."""

    def times(most: int) -> list[float]:
        return [random.uniform(0.0, seconds) for _ in range(random.choice((0, random.randint(1, most))))]

    return Faults(
        slow=tuple(
            SlowSteps(at_s, at_s + random.uniform(0.0, seconds / 4), random.uniform(1.5, 5.0)) for at_s in times(2)
        ),
        outliers=tuple(Outlier(at_s, random.choice((10.0, 100.0))) for at_s in times(4)),
        lost=tuple(LostWorker(at_s, random.uniform(0.0, seconds / 10)) for at_s in times(2)),
        abort_share=random.choice((0.0, random.random())),
        abort_mean_s=random.uniform(0.01, seconds / 4),
    )


@dataclass(slots=True)
class Slowness:
    """How much longer steps take as a run goes on."""

    faults: Faults
    _outliers: list[Outlier] = field(init=False)

    def __post_init__(self) -> None:
        self._outliers = sorted(self.faults.outliers, key=lambda outlier: outlier.at_s, reverse=True)

    @property
    def is_uneven(self) -> bool:
        """Whether a step may take longer than its like."""
        return bool(self.faults.slow or self.faults.outliers)

    def factor(self, now: float) -> float:
        """For the step that begins ``now``; an outlier counts once."""
        factor = 1.0
        for slow in self.faults.slow:
            if slow.from_s <= now < slow.to_s:
                factor *= slow.factor
        if self._outliers and self._outliers[-1].at_s <= now:
            factor *= self._outliers.pop().factor
        return factor
