"""One way to serve a model: what a search goes through."""

from __future__ import annotations

from dataclasses import dataclass

from headway.plan.engine import UNCALIBRATED, Calibration, Engine
from headway.plan.gpu import Gpu
from headway.plan.model import ModelShape
from headway.plan.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """``replicas`` times ``tp`` GPUs; each replica holds the whole model, split over its ``tp`` GPUs."""

    model: ModelShape
    gpu: Gpu
    engine: Engine
    tp: int = 1
    replicas: int = 1
    precision: Precision = Precision.BF16
    kv_precision: Precision = Precision.BF16
    calibration: Calibration = UNCALIBRATED

    @property
    def gpus(self) -> int:
        return self.tp * self.replicas


def is_measured(setup: Setup, calibration: Calibration) -> bool:
    """Whether the calibration was measured on this very set-up. Moved to another model, tensor parallelism or number
    format of the same GPU and engine, two parameters made predictions of published points worse (docs/plan.md)."""
    return (
        setup.gpu.name == calibration.gpu
        and setup.engine.name == calibration.engine
        and setup.model.name == calibration.model
        and setup.tp == calibration.tp
        and setup.precision == calibration.precision
        and setup.kv_precision == calibration.kv_precision
    )
