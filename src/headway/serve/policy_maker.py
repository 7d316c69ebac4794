"""From what the operator said to the policy that runs: what steps take is measured first, or read from a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from headway.policy.controller import PromiseConfig
from headway.policy.plan import Executor, ExecutorInfo
from headway.policy.policies import build
from headway.policy.policy import Policy
from headway.policy.slo import ServiceClasses
from headway.policy.steptime import StepTimeModel
from headway.serve.calibration import calibrate

Progress = Callable[[str, float | None], None]


class PolicyMaker:
    """Makes the policy once the executor has started. ``step_times``: a file that keeps the step-time model from one
    run to the next; without it, or before there is one, the model is measured. Raises ValueError for a file that holds
    no model, OSError for one that can't be read."""

    def __init__(
        self,
        name: str,
        classes: ServiceClasses,
        promise: PromiseConfig,
        *,
        step_times: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._name = name
        self._classes = classes
        self._promise = promise
        self._progress = progress
        self._file = step_times
        self._model: StepTimeModel | None = None
        if step_times is not None and step_times.exists():
            try:
                self._model = StepTimeModel.from_json(step_times.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{step_times}: {error}") from None

    def __call__(self, executor: Executor, info: ExecutorInfo) -> Policy:
        if self._name == "headway" and self._model is None:
            self._model = StepTimeModel()
            calibrate(executor, info, self._model, progress=self._progress)
        return build(self._name, model=self._model, classes=self._classes, promise=self._promise)

    def save(self) -> None:
        """Keep what was learned, if there is a file for it: whole or not at all. Raises OSError."""
        if self._file is None or self._model is None:
            return
        beside = self._file.with_name(f"{self._file.name}.new")
        beside.write_text(self._model.to_json(), encoding="utf-8")
        os.replace(beside, self._file)
