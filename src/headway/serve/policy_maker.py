"""From what the operator said to the policy that runs: what steps take is measured first, or read from a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headway.policy.controller import PromiseConfig
from headway.policy.plan import Executor, ExecutorInfo
from headway.policy.policies import POLICIES, build
from headway.policy.policy import Policy
from headway.policy.slo import ServiceClasses
from headway.policy.steptime import StepTimeModel
from headway.serve.calibration import calibrate

Progress = Callable[[str, float | None], None]


class Measure(Protocol):
    """Lets the model observe how long steps take: ``calibrate``, or whatever knows."""

    def __call__(
        self, executor: Executor, info: ExecutorInfo, model: StepTimeModel, *, progress: Progress | None
    ) -> None: ...


class PolicyMaker:
    """Makes the policy once the executor has started. ``step_times``: a file that keeps the step-time model from one
    run to the next; without it, before there is one, or if it is of another machine or model, the steps are measured.
    Raises ValueError for a name that is none of ``POLICIES`` and for a file that holds no model, OSError for one that
    can't be read."""

    def __init__(
        self,
        name: str,
        classes: ServiceClasses,
        promise: PromiseConfig,
        *,
        step_times: Path | None = None,
        progress: Progress | None = None,
        measure: Measure = calibrate,
    ) -> None:
        if name not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {name!r}")
        self.name = name
        self.promise = promise
        self._classes = classes
        self._progress = progress
        self._measure = measure
        self._file = step_times
        self._kept = None if step_times is None or not step_times.exists() else read_step_times(step_times)
        self._learned: tuple[ExecutorInfo, StepTimeModel] | None = None

    def __call__(self, executor: Executor, info: ExecutorInfo) -> Policy:
        if self.name != "headway":
            return build(self.name)
        if self._kept is not None and self._kept.of == info.description:
            model = self._kept.model
        else:
            model = StepTimeModel()
            self._measure(executor, info, model, progress=self._progress)
        self._learned = info, model
        return build(self.name, model=model, classes=self._classes, promise=self.promise)

    def save(self) -> None:
        """Keep what was learned, if there is a file for it: whole or not at all. Raises OSError."""
        if self._file is None or self._learned is None:
            return
        info, model = self._learned
        cache = {name: getattr(info, name) for name in CACHE}
        kept = {"of": info.description, "cache": cache, "model": json.loads(model.to_json())}
        beside = self._file.with_name(f"{self._file.name}.new")
        beside.write_text(json.dumps(kept), encoding="utf-8")
        os.replace(beside, self._file)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """``of``: what machine and model they are of, in words. ``cache``: the fields ``CACHE`` of its executor's record;
    None in files of older servers."""

    of: str
    model: StepTimeModel
    cache: Mapping[str, int] | None


CACHE = ("block_size", "kv_blocks", "context_tokens")


def read_step_times(path: Path) -> StepTimes:
    """Raises ValueError and OSError."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(kept, dict) or set(kept) - {"cache"} != {"of", "model"} or not isinstance(kept["of"], str):
            raise ValueError("it holds no step times of Headway")
        cache = kept.get("cache")
        if cache is not None and not _is_cache(cache):
            raise ValueError(f"its cache must have {', '.join(CACHE)}, each above 0")
        return StepTimes(of=kept["of"], model=StepTimeModel.from_json(json.dumps(kept["model"])), cache=cache)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{path}: no JSON, or cut off") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _is_cache(cache: object) -> bool:
    return (
        isinstance(cache, dict)
        and set(cache) == set(CACHE)
        and all(type(each) is int and 0 < each <= CACHE_MAX for each in cache.values())
    )


CACHE_MAX = 1 << 48
