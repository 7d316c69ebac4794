"""What is asked of a plan, and how people write it. Whatever can't be meant is one line that says what can be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from headway.plan.engine import UNCALIBRATED, Calibration, Engine
from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu
from headway.plan.load import RATE_MAX, Demand, rate_of
from headway.plan.model import ModelShape
from headway.plan.precision import Precision
from headway.plan.sources import Stretched
from headway.policy.objectives import MS_MAX, MS_MIN, PARTS, parts_ms, read_classes, with_parts
from headway.policy.slo import TARGET_ATTAINMENT, Objective, ServiceClass
from headway.sim.lengths import scale

GPUS_MAX = 1024
SEEDS_MAX = 32
REQUESTS_MIN, REQUESTS_MAX = 100, 100_000
FACTOR_MIN, FACTOR_MAX = 0.01, 100.0
CHANGES_MAX = 16
SECONDS_MEANT_BELOW_MS = 5.0
"""A promise below so many milliseconds was most likely written in seconds."""
ROUTERS = ("least-ttft", "round-robin")
TENSOR_PARALLEL = (1, 2, 4, 8, 16)
KV_PRECISIONS = (Precision.BF16, Precision.FP8)

_ALIASES = {"fp16": Precision.BF16, "bfloat16": Precision.BF16, "float16": Precision.BF16, "half": Precision.BF16}
_CHANGES = "rate=2x, rate=40, prompt=1.5x, output=2x, ttft=200, itl=50, e2e=2000 or itl=0.5x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A what-if: ``factors`` of rate, prompt, output, ttft, itl, e2e; ``values`` in place of them (requests a second,
    seconds). ``text``: as it was written."""

    text: str
    factors: Mapping[str, float]
    values: Mapping[str, float]

    def of(self, demand: Demand) -> Demand:
        """Raises ``PlanError`` if it leads to what can't be."""
        rate = self.values.get("rate", demand.rate * self.factors.get("rate", 1.0))
        if rate > RATE_MAX:
            raise PlanError(f"--what-if {self.text}: {rate:g} requests a second are more than {RATE_MAX:,.0f}")
        prompt, output = self.factors.get("prompt", 1.0), self.factors.get("output", 1.0)
        changed = demand.with_objectives({name: self._promise(each) for name, each in demand.promises.items()})
        workload = changed.workload
        if (prompt, output) != (1.0, 1.0):
            traffic = tuple(
                replace(
                    kind,
                    source=Stretched(kind.source, prompt, output),
                    max_tokens=None if kind.max_tokens is None else scale(kind.max_tokens, output),
                )
                for kind in workload.traffic
            )
            workload = replace(workload, traffic=traffic)
        return replace(changed, workload=workload, rate=rate)

    def _promise(self, objective: Objective) -> Objective:
        """Only what is promised already can be changed by a factor; a value is promised anew."""
        ms = parts_ms(objective)
        for part in PARTS:
            old = ms[part]
            if part in self.values:
                ms[part] = 1000 * self.values[part]
            elif part in self.factors and old is not None:
                ms[part] = old * self.factors[part]
        try:
            return with_parts(objective, ms)
        except ValueError as error:
            raise PlanError(f"--what-if {self.text}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """``gpus``: with the prices that count. ``tensor_parallel``: sizes to try, None for all that can be. ``requests``:
    least arrivals of one simulated run. ``tolerance``: relative, of capacities. ``calibration``: of one set-up, for it
    alone. ``catalogue``: all GPUs there are. ``notes``: what whoever reads the plan must know of them. Raises
    ``PlanError`` for what can't be meant."""

    model: ModelShape
    demand: Demand
    gpus: tuple[Gpu, ...]
    engine: Engine
    policy: str
    max_gpus: int = 16
    precisions: tuple[Precision, ...] = (Precision.BF16, Precision.FP8)
    kv_precision: Precision = Precision.BF16
    tensor_parallel: tuple[int, ...] | None = None
    router: str = ROUTERS[0]
    calibration: Calibration = UNCALIBRATED
    target: float = TARGET_ATTAINMENT
    seeds: int = 3
    requests: int = 500
    tolerance: float = 0.08
    changes: tuple[Change, ...] = ()
    catalogue: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("--max-gpus", self.max_gpus, 1, GPUS_MAX),
            ("--seeds", self.seeds, 1, SEEDS_MAX),
            ("--requests", self.requests, REQUESTS_MIN, REQUESTS_MAX),
        ):
            if not least <= value <= most:
                raise PlanError(f"{name} must be {least:,} to {most:,}, not {value:,}")
        for size in self.tensor_parallel or ():
            if size not in TENSOR_PARALLEL:
                raise PlanError(f"--tp must be one of {', '.join(map(str, TENSOR_PARALLEL))}, not {size}")
        if not self.gpus:
            raise PlanError("no GPU has a price: give --price NAME=2.50, or name GPUs with --gpu")
        if self.router not in ROUTERS:
            raise PlanError(f"--router must be one of {', '.join(ROUTERS)}, not {self.router!r}")
        if len(self.changes) > CHANGES_MAX:
            raise PlanError(f"at most {CHANGES_MAX} what-ifs, not {len(self.changes)}")


def classes_of(slo: tuple[str, ...]) -> tuple[Mapping[str, ServiceClass], tuple[str, ...]]:
    """The classes with what they are promised, and the names of those that were given. Raises ``PlanError``."""
    for text in slo:
        _, _, parts = text.partition(":")
        for part in parts.split(","):
            name, _, value = part.partition("=")
            _check_unit(f"--slo {text}", name.strip(), value.strip())
    try:
        return read_classes({}, slo), tuple(dict.fromkeys(text.partition(":")[0] for text in slo))
    except ValueError as error:
        raise PlanError(str(error)) from None


def _check_unit(where: str, part: str, value: str) -> None:
    """Raises ``PlanError`` where seconds seem to be meant, or another unit is written."""
    if part not in PARTS:
        return
    if found := re.fullmatch(r"([\d.]+)\s*(ms|s|sec|seconds)", value):
        ms = float(found[1]) * (1 if found[2] == "ms" else 1000)
        raise PlanError(f"{where}: {part} is in milliseconds, without a unit: {part}={ms:g}")
    try:
        number = float(value)
    except ValueError:
        return
    if math.isfinite(number) and 0.0 < number < SECONDS_MEANT_BELOW_MS and not (part == "itl" and number >= 1.0):
        meant = f"; if {number:g} s was meant, write {part}={1000 * number:g}"
        raise PlanError(f"{where}: {part} is in milliseconds, and {number:g} ms is less than any GPU takes{meant}")


def precisions_of(names: Iterable[str]) -> tuple[Precision, ...]:
    """Raises ``PlanError``."""
    return tuple(dict.fromkeys(precision_of(name) for name in names))


def kv_precision_of(name: str) -> Precision:
    """Of the KV cache: others would be planned for and no engine has them. Raises ``PlanError``."""
    found = precision_of(name)
    if found not in KV_PRECISIONS:
        raise PlanError(f"--kv-precision must be one of {', '.join(KV_PRECISIONS)}, not {name!r}")
    return found


def precision_of(name: str) -> Precision:
    lowered = name.strip().lower()
    if lowered in _ALIASES:
        return _ALIASES[lowered]
    try:
        return Precision(lowered)
    except ValueError:
        raise PlanError(f"there is no precision {name!r}; there are {', '.join(Precision)}") from None


def change_of(text: str) -> Change:
    """A what-if, ``rate=2x`` or several with commas between. Raises ``PlanError``."""
    factors: dict[str, float] = {}
    values: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (each.strip() for each in part.partition("="))
        name = {"in": "prompt", "out": "output"}.get(name, name)
        if not equals or name not in ("rate", "prompt", "output", *PARTS) or name in factors or name in values:
            raise PlanError(f"--what-if {text}: write one of {_CHANGES}")
        if value.endswith("x"):
            factors[name] = _factor(text, value)
        elif name in ("prompt", "output"):
            raise PlanError(f"--what-if {text}: lengths are changed by a factor, as {name}=1.5x")
        elif name == "rate":
            values[name] = rate_of(value)
        else:
            _check_unit(f"--what-if {text}", name, value)
            values[name] = _ms(text, name, value) / 1000
    return Change(text=text, factors=factors, values=values)


def _factor(text: str, value: str) -> float:
    try:
        factor = float(value[:-1])
    except ValueError:
        raise PlanError(f"--what-if {text}: {value!r} is no factor; write one of {_CHANGES}") from None
    if not FACTOR_MIN <= factor <= FACTOR_MAX:
        raise PlanError(f"--what-if {text}: a factor must be {FACTOR_MIN:g}x to {FACTOR_MAX:g}x")
    return factor


def _ms(text: str, name: str, value: str) -> float:
    try:
        ms = float(value)
    except ValueError:
        raise PlanError(f"--what-if {text}: {value!r} is no number; write one of {_CHANGES}") from None
    if not MS_MIN <= ms <= MS_MAX:
        raise PlanError(f"--what-if {text}: {name} must be {MS_MIN} to {MS_MAX:,} milliseconds")
    return ms
