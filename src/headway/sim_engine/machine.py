"""The machine that is modelled: hardware from ``sim``, run faster or slower, with steps that vary."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from headway.policy.plan import Executor, ExecutorInfo
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from headway.serve.calibration import calibrate
from headway.sim.executor import VirtualExecutor
from headway.sim.hardware import HARDWARE, NOISE_MAX, Hardware
from headway.sim_engine.record import read_hardware

PREFIX = "sim:"
FORM = f"{PREFIX}MACHINE[,speed=1,noise=0.05,seed=1]"

SPEED_MIN, SPEED_MAX = 0.001, 1000.0


class Machine:
    """Hardware whose steps take a ``speed``-th of the time, times a lognormal factor of median 1 and sigma ``noise``.

    The factors come one after the other from ``seed``, so two machines of one seed vary alike.
    Raises ValueError for a speed or a noise that can't be meant.
    """

    def __init__(self, hardware: Hardware, *, speed: float = 1.0, noise: float = 0.0, seed: int = 0) -> None:
        if not SPEED_MIN <= speed <= SPEED_MAX:
            raise ValueError(f"speed must be {SPEED_MIN:g} to {SPEED_MAX:g}, not {speed:g}")
        if not 0.0 <= noise <= NOISE_MAX:
            raise ValueError(f"noise must be 0 to {NOISE_MAX:g}, not {noise:g}")
        self.name = hardware.name
        self.description = hardware.description
        self.source = hardware.source
        self.noise = noise
        self.seed = seed
        self.speed = speed
        self.info = replace(hardware.info, description=_describe(hardware, speed, noise))
        self._hardware = hardware
        self._random = Random(f"{seed} noise")

    def step_s(self, shape: StepShape) -> float:
        """How long the next step takes, if it has this shape: another time at each call."""
        factor = self._random.lognormvariate(0.0, self.noise) if self.noise else 1.0
        return self._hardware.step_s(shape) * factor / self.speed

    def limit(self, *, kv_tokens: int | None, context_tokens: int | None) -> None:
        """Another size of the KV cache, and of the longest sequence, than the record has. Raises ValueError."""
        size = self.info.block_size
        if kv_tokens is not None:
            if kv_tokens < size:
                raise ValueError(f"kv_tokens must be at least one block of {size} on {self.name}, not {kv_tokens}")
            self.info = replace(self.info, kv_blocks=kv_tokens // size)
        if context_tokens is not None:
            if context_tokens < 1:
                raise ValueError(f"context_tokens must be at least 1, not {context_tokens}")
            self.info = replace(self.info, context_tokens=context_tokens)

    def offer(self, vocab_size: int) -> ExecutorInfo:
        """What it offers to a server whose tokenizer knows so many tokens."""
        return replace(self.info, vocab_size=vocab_size)

    def measure(
        self,
        executor: Executor,
        info: ExecutorInfo,
        model: StepTimeModel,
        *,
        progress: Callable[[str, float | None], None] | None = None,
    ) -> None:
        """What a server measures at its start, in virtual time: the same steps, and no wait for them."""
        virtual = VirtualExecutor(self)
        virtual.start()
        calibrate(virtual, info, model, progress=progress, clock=virtual.clock)


def parse_machine(text: str) -> Machine:
    """From ``sim:NAME`` or ``sim:FILE.toml``, with options behind commas. Raises ValueError, one line, and OSError."""
    if not text.startswith(PREFIX):
        raise ValueError(f"engine must be {FORM}, not {text!r}; without it there is the built-in engine")
    name, *given = text.removeprefix(PREFIX).split(",")
    values = {"speed": 1.0, "noise": 0.0, "seed": 0.0}
    for option in given:
        key, equals, value = option.partition("=")
        if not equals or key not in values:
            raise ValueError(f"engine: {option!r} is not one of speed=, noise=, seed=")
        values[key] = _number(key, value)
    return Machine(_hardware(name), speed=values["speed"], noise=values["noise"], seed=int(values["seed"]))


def _number(key: str, value: str) -> float:
    try:
        number = float(int(value)) if key == "seed" else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"engine: {key} must be {'an integer' if key == 'seed' else 'a number'}, not {value!r}")
    return number


def _hardware(name: str) -> Hardware:
    if name.endswith(".toml"):
        return read_hardware(Path(name).expanduser())
    if name not in HARDWARE:
        raise ValueError(f"engine: there is no machine {name!r}; there are {', '.join(HARDWARE)}, and FILE.toml")
    return HARDWARE[name]


def _describe(hardware: Hardware, speed: float, noise: float) -> str:
    parts = [hardware.info.description]
    if speed != 1.0:
        parts.append(f"{speed:g} times as fast")
    if noise:
        parts.append(f"noise {noise:g}")
    return ", ".join(parts)
