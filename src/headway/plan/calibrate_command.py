"""``headway plan calibrate``: two parameters from a recorded run of ``headway bench`` against a server on a GPU."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from headway.bench.export import ExportError
from headway.bench.figures import Run
from headway.bench.shelf import find
from headway.bench.store import StoreError, default_path
from headway.plan.calibrate import Compared, Measured, calibrate, described, measured_levels
from headway.plan.calibration_file import save
from headway.plan.catalogue import find_gpu, gpus
from headway.plan.engine import Calibration
from headway.plan.engines import find_engine
from headway.plan.errors import PlanError
from headway.plan.known_models import find_model
from headway.plan.question import TENSOR_PARALLEL, kv_precision_of, precision_of
from headway.plan.setup import Setup
from headway.plan.steady import closed_loop
from headway.plan.steptime import GpuMachine, machine

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
OUTPUT = Path("calibration.json")
CPU = (
    "a CPU has no data sheet here: serve on it with headway serve --step-times FILE, and plan with headway plan "
    "machine FILE"
)


def calibrate_command(
    run: str,
    /,
    *,
    gpu: str,
    model: str | None = None,
    engine: str | None = None,
    tp: int = 1,
    precision: str = "bf16",
    kv_precision: str = "bf16",
    max_step_tokens: int | None = None,
    driver: str = "",
    gpus_file: Path | None = None,
    store: Path | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = OUTPUT,
) -> int:
    """Fix two parameters by a short measured run, so that plans for this set-up have a narrower band.

    Measure first, on an idle server: headway bench URL --concurrency 1,16. Then plan with --calibration FILE.

    Parameters
    ----------
    run
        The run: its id, the first letters of it, or latest; or the file it was written to (--json).
    gpu
        What the server ran on; headway plan gpus lists them.
    model
        What it served; by what the run says if not given.
    engine
        What served it; by what the run says if not given.
    tp
        Over how many GPUs the model was split.
    precision
        Of the weights: bf16, fp8, int8, int4, fp4.
    kv_precision
        Of the KV cache: bf16 or fp8.
    max_step_tokens
        Tokens of one step at most, where the server was told (vLLM: --max-num-batched-tokens).
    driver
        Version of the GPU's driver, to be kept with the calibration.
    gpus_file
        GPUs of your own, in TOML.
    store
        Where runs are kept.
    output
        The file to write.
    """
    try:
        found = find(run, store or default_path())[0]
        on = _machine(found, gpu, model, engine, tp, precision, kv_precision, max_step_tokens, gpus_file)
        levels, left_out = measured_levels(found)
        fitted, compared = calibrate(levels, lambda level: _predict(on, level))
        whole = described(fitted, found, on.setup, driver)
        save(whole, output)
    except PlanError as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (StoreError, ExportError) as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_FAILED
    Console().print(shown(whole, compared, left_out, on, output))
    return EXIT_OK


def _machine(
    run: Run,
    gpu: str,
    model: str | None,
    engine: str | None,
    tp: int,
    precision: str,
    kv_precision: str,
    max_step_tokens: int | None,
    gpus_file: Path | None,
) -> GpuMachine:
    if gpu.strip().lower() == "cpu":
        raise PlanError(CPU)
    if tp not in TENSOR_PARALLEL:
        raise PlanError(f"--tp must be one of {', '.join(map(str, TENSOR_PARALLEL))}, not {tp}")
    setup = Setup(
        model=find_model(model or str(run.target.get("model") or "")),
        gpu=find_gpu(gpu, gpus(gpus_file)),
        engine=find_engine(engine or str(run.target.get("engine") or "")),
        tp=tp,
        precision=precision_of(precision),
        kv_precision=kv_precision_of(kv_precision),
    )
    return machine(setup, max_step_tokens)


def _predict(on: GpuMachine, level: Measured) -> float:
    return closed_loop(on, level.concurrency, round(level.prompt_tokens), max(2, round(level.output_tokens))).tpot_s


def shown(
    calibration: Calibration, compared: list[Compared], left_out: list[str], on: GpuMachine, output: Path
) -> RenderableType:
    """What a person sees: each level before and after, the two numbers, and what they hold for."""
    table = Table(box=box.SIMPLE, title=f"Time per output token: {on.description}", title_justify="left")
    for column in ("level", "requests", "measured", "data sheet says", "", "calibrated", ""):
        table.add_column(column, justify="left" if column == "level" else "right")
    for each in compared:
        real = each.measured
        table.add_row(
            Text(real.name),
            str(real.requests),
            f"{1e3 * real.tpot_s:.2f} ms",
            f"{1e3 * each.before_s:.2f} ms",
            f"{each.before_s / real.tpot_s - 1.0:+.0%}",
            f"{1e3 * each.after_s:.2f} ms",
            f"{each.after_s / real.tpot_s - 1.0:+.0%}",
        )
    assert calibration.band is not None
    lines = [
        f"A step takes {1e3 * calibration.step_s:+.2f} ms and {calibration.factor:.3f} times what the model says;"
        f" 90 % within a factor of {math.exp(calibration.band):.2f}.",
        f"For {on.description}, version {calibration.engine_version or 'unknown'}, measured {calibration.date}.",
        "Another model, tensor parallelism, number format or engine version needs another run.",
        f"Written to {output}: headway plan ... --calibration {output}",
    ]
    if len(compared) == 1:
        lines.insert(1, "One level fixes the factor alone: --concurrency 1,16 would tell the time per step as well.")
    notes = [Text(f"! left out: {each}", style="yellow") for each in left_out]
    return Group(table, *notes, *(Text(line) for line in lines))
