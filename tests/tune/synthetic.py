"""Made-up servers whose operating point is known: p95 curves over the batch, seen through samples."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from headway.tune.observation import Measured, Observation
from headway.tune.probe import Probe

Curve = Callable[[float], float]
Z95 = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, slots=True)
class Part:
    """``curve``: the true p95 at a load. ``sigma``: of the lognormal that single values are drawn from."""

    curve: Curve
    target: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Server:
    parts: Mapping[str, Part]

    @property
    def targets(self) -> dict[str, float]:
        return {name: part.target for name, part in self.parts.items()}

    def truth(self, most: int) -> int:
        """The largest batch that keeps all targets; 0 if none does. Curves are monotone."""

        def broken(batch: int) -> bool:
            return any(part.curve(batch) > part.target for part in self.parts.values())

        return bisect.bisect_left(range(1, most + 1), True, key=broken)


def interval(ordered: list[float], share: float = 0.95) -> Measured:
    """p95 (nearest rank) and its interval by order statistics, by the normal approximation of the binomial."""
    n = len(ordered)
    half = 1.96 * math.sqrt(n * share * (1 - share))
    low, high = math.floor(n * share - half), math.ceil(n * share + half)
    return Measured(
        ordered[math.ceil(n * share) - 1],
        ordered[low - 1] if low >= 1 else 0.0,
        ordered[high] if high < n else math.inf,
    )


class Measurer:
    """Draws what a probe sees; samples of one load are pooled. ``most_samples``: what fits the time of a probe."""

    def __init__(self, server: Server, seed: int, most_samples: int = 10**9) -> None:
        self._server, self._rng, self._most = server, random.Random(seed), most_samples
        self._values: dict[tuple[float, str], list[float]] = {}

    def __call__(self, probe: Probe) -> Observation:
        parts: dict[str, Measured] = {}
        for name, part in self._server.parts.items():
            values = self._values.setdefault((probe.load, name), [])
            middle = math.log(part.curve(probe.load)) - part.sigma * Z95
            values += [self._rng.lognormvariate(middle, part.sigma) for _ in range(min(probe.samples, self._most))]
            values.sort()
            parts[name] = interval(values)
        return Observation(parts=parts, samples=len(values))


def random_server(rng: random.Random, point: float) -> tuple[str, Server]:
    """A server that crosses one of its targets at about ``point``: by a line, a power, a queue, a cliff, a plateau."""
    kind = rng.choice(("line", "power", "queue", "cliff", "plateau", "slots", "joint"))
    target = 10 ** rng.uniform(-2, 0.5)
    noise = rng.choice((0.02, 0.05, 0.1))
    floor = rng.uniform(0.05, 0.7) * target
    itl = Part(lambda n: floor + (target - floor) * n / point, target, noise)
    if kind == "line":
        return kind, Server({"itl": itl})
    ttft_target = 10 ** rng.uniform(-1, 0.5)
    base = rng.uniform(0.05, 0.6) * ttft_target
    wide = rng.choice((0.1, 0.2, 0.3))
    if kind == "power":
        power = rng.uniform(0.7, 2.0)
        return kind, Server(
            {"ttft": Part(lambda n: base + (ttft_target - base) * (n / point) ** power, ttft_target, wide)}
        )
    queue = Part(lambda n: base + (ttft_target - base) * _queue(n / point), ttft_target, wide)
    if kind == "queue":
        return kind, Server({"ttft": queue})
    if kind == "cliff":
        return kind, Server({"itl": Part(lambda n: floor * (1 if n <= point else 20), target, noise)})
    if kind == "plateau":
        return kind, Server({"itl": Part(lambda n: _plateau(n / point, floor, target), target, noise)})
    if kind == "slots":
        e2e = rng.uniform(2, 20) * ttft_target
        part = Part(lambda n: base + e2e * max(0.0, n - point) / point, ttft_target, wide)
        return kind, Server({"ttft": part, "itl": Part(lambda n: min(n, point) / point * 0.8 * target, target, noise)})
    slower = rng.uniform(1.0, 2.0)
    late = Part(lambda n: base + (ttft_target - base) * _queue(n / (slower * point)), ttft_target, wide)
    return kind, Server({"itl": itl, "ttft": late})


def _queue(share: float) -> float:
    """1 at 1, and steeper and steeper; finite for all loads."""
    busy = min(0.8 * share, 0.98)
    return (busy / (1 - busy)) / 4.0 * max(1.0, share)


def _plateau(share: float, floor: float, target: float) -> float:
    """A step up at half the point, flat, then a slope through it."""
    if share <= 0.5:
        return floor
    level = floor + 0.6 * (target - floor)
    return level if share <= 0.9 else level + (target - level) * (share - 0.9) / 0.1
