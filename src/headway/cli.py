"""The command line: ``headway serve``, ``demo``, ``simulate``. Parsing and wiring; what they do lives elsewhere."""

from __future__ import annotations

import os
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import App, Group, Parameter

from headway import __version__
from headway.bench.given import check_outputs

if TYPE_CHECKING:
    from headway.policy.plan import ExecutorInfo

KEYS_VARIABLE = "HEADWAY_API_KEYS"
ADMIN_KEY_VARIABLE = "HEADWAY_ADMIN_KEY"

EXIT_USAGE = 2

_MODEL = Group("Model and engine", sort_key=1)
_HTTP = Group("HTTP", sort_key=2)
_PROMISE = Group("Promises", sort_key=3)
_BATCH = Group("Batching", sort_key=4)

app = App(
    name="headway",
    help="An OpenAI-compatible LLM server. Every option can also be set by HEADWAY_NAME or in a file (--config).",
    version=__version__,
    default_parameter=Parameter(negative=()),
)


@app.command
def serve(
    model: Annotated[str | None, Parameter(group=_MODEL)] = None,
    /,
    *,
    name: Annotated[str | None, Parameter(group=_MODEL)] = None,
    engine: Annotated[str | None, Parameter(group=_MODEL)] = None,
    dtype: Annotated[Literal["auto", "bf16", "int8", "fp32"], Parameter(group=_MODEL)] = "auto",
    kv_tokens: Annotated[int | None, Parameter(group=_MODEL)] = None,
    context_tokens: Annotated[int | None, Parameter(group=_MODEL)] = None,
    threads: Annotated[int | None, Parameter(group=_MODEL)] = None,
    tensor_parallel: Annotated[int, Parameter(group=_MODEL)] = 1,
    host: Annotated[str, Parameter(group=_HTTP)] = "127.0.0.1",
    port: Annotated[int, Parameter(group=_HTTP)] = 8000,
    api_key_file: Annotated[Path | None, Parameter(group=_HTTP)] = None,
    allowed_host: Annotated[tuple[str, ...], Parameter(group=_HTTP)] = (),
    cors_origin: Annotated[tuple[str, ...], Parameter(group=_HTTP)] = (),
    drain_s: Annotated[float, Parameter(group=_HTTP)] = 30.0,
    quiet: Annotated[bool, Parameter(group=_HTTP)] = False,
    admin_port: Annotated[int | None, Parameter(group=_HTTP)] = None,
    admin_key_file: Annotated[Path | None, Parameter(group=_HTTP)] = None,
    slo: Annotated[tuple[str, ...], Parameter(group=_PROMISE)] = (),
    never_shed: Annotated[bool, Parameter(group=_PROMISE)] = False,
    policy: Annotated[str, Parameter(group=_PROMISE)] = "headway",
    classes: Annotated[Mapping[str, Any], Parameter(parse=False)],
    fair: Annotated[bool, Parameter(group=_PROMISE)] = False,
    step_times: Annotated[Path | None, Parameter(group=_PROMISE)] = None,
    max_step_tokens: Annotated[int | None, Parameter(group=_BATCH)] = None,
    max_running: Annotated[int, Parameter(group=_BATCH)] = 1024,
    max_queued_requests: Annotated[int, Parameter(group=_BATCH)] = 2048,
    max_queued_tokens: Annotated[int, Parameter(group=_BATCH)] = 1 << 20,
) -> int:
    """Serve a model over the OpenAI API.

    Parameters
    ----------
    model
        A directory with config.json and safetensors, a hub id, or random:SHAPE (real shape, random weights, for
        measuring). Without it: the small bundled model.
    name
        What clients call the model; its own name if not given.
    engine
        sim:MACHINE, a modelled machine in place of a model, to test clients with: real HTTP, real scheduling, and steps
        that take as long as that machine's would. MACHINE is h100-llama-8b, another name of headway simulate --list, or
        FILE.toml; behind it may be ,speed=1,noise=0.05,seed=1.
    dtype
        How weights are stored. auto is bf16; int8 takes half the memory and is faster still, at a small loss of
        quality.
    kv_tokens
        Size of the KV cache in tokens; a quarter of the free memory if not given.
    context_tokens
        Longest prompt and answer together; what the model was made for if not given.
    threads
        Compute threads of a worker; one per core if not given.
    tensor_parallel
        Split the model over this many worker processes.
    host
        Address to listen on. Anything but loopback is open to the network.
    port
        Port to listen on.
    api_key_file
        File with one key a line, KEY or NAME:KEY. The variable HEADWAY_API_KEYS does the same, separated by commas.
    allowed_host
        A host name to answer to besides loopback. May be given several times.
    cors_origin
        An origin whose pages may call the server. May be given several times.
    drain_s
        After SIGTERM, how long requests in progress may go on (seconds).
    quiet
        Say nothing but errors.
    admin_port
        Port on 127.0.0.1 where promises and caps can be changed while the server runs. Needs an admin key.
    admin_key_file
        File with the admin key alone. The variable HEADWAY_ADMIN_KEY does the same.
    slo
        What a class of traffic is promised at p95, in milliseconds: NAME:ttft=300,itl=100,e2e=2000, any of the three;
        "none" takes a promise back. Classes are conversational, interactive, batch, and those of the tables
        [classes.NAME] in the file. May be given several times.
    never_shed
        Serve requests late rather than refuse them, whatever was promised.
    policy
        What decides about steps and admission: headway; or, to compare with it, static, aimd, prefill-first or vllm.
    fair
        In overload, refuse long prompts no more often than short ones: fewer are served in all.
    step_times
        A file that keeps what was learned of how long steps take, from one run to the next. Without it, a few seconds
        of the start are spent on measuring.
    max_step_tokens
        Most tokens in one step, whatever the promises leave room for: 8192, or 2048 with another policy.
    max_running
        Most requests in one step.
    max_queued_requests
        Most requests waiting; more are refused with 429.
    max_queued_tokens
        Most prompt tokens waiting; more are refused with 429.
    """
    from headway.engine.executor import WorkerExecutor
    from headway.engine.options import EngineOptions, OptionError
    from headway.models.errors import ModelError
    from headway.models.source import resolve
    from headway.policy.controller import PromiseConfig
    from headway.policy.objectives import read_classes
    from headway.policy.policies import default_step_tokens
    from headway.policy.scheduler import SchedulerConfig
    from headway.serve.calibration import calibrate
    from headway.serve.lifecycle import ServeConfig
    from headway.serve.lifecycle import serve as run_server
    from headway.serve.policy_maker import PolicyMaker
    from headway.serve.text import Text

    start_up = _StartUp(quiet)
    try:
        config = ServeConfig(
            host=host,
            port=port,
            served_name=name,
            api_keys=_api_keys(api_key_file),
            allowed_hosts=allowed_host,
            cors_origins=cors_origin,
            drain_s=drain_s,
            admin_port=admin_port,
            admin_key=_admin_key(admin_key_file),
            classes=read_classes(classes, slo),
            scheduler=SchedulerConfig(
                max_step_tokens=default_step_tokens(policy) if max_step_tokens is None else max_step_tokens,
                max_running=max_running,
                max_queued_requests=max_queued_requests,
                max_queued_tokens=max_queued_tokens,
            ),
        )
        options = EngineOptions(dtype=dtype, kv_tokens=kv_tokens, threads=threads, context_tokens=context_tokens)
        if not 1 <= tensor_parallel <= 64:
            raise OptionError(f"tensor_parallel must be 1 to 64, not {tensor_parallel}")
        promise = PromiseConfig(never_shed=never_shed, fair=fair)
        modelled = None
        if engine is None:
            source = resolve(model, progress=start_up.progress)
        else:
            from headway.sim_engine.engine import SimulatedEngine

            modelled = SimulatedEngine.parse(
                engine,
                model=model,
                dtype=dtype,
                threads=threads,
                tensor_parallel=tensor_parallel,
                kv_tokens=kv_tokens,
                context_tokens=context_tokens,
            )
            source = modelled.source
        check_outputs({"--step-times": step_times})
        make_policy = PolicyMaker(
            policy,
            config.classes,
            promise,
            step_times=step_times,
            progress=start_up.progress,
            measure=calibrate if modelled is None else modelled.machine.measure,
        )
    except (ModelError, OptionError, ValueError, OSError) as error:
        return _refuse(str(error))
    built_in = WorkerExecutor(source, options, ranks=tensor_parallel, progress=start_up.progress)
    status = run_server(
        config,
        source,
        built_in if modelled is None else modelled.executor,
        Text.load if modelled is None else lambda _: modelled.text,
        make_policy=make_policy,
        report=start_up.say,
        on_ready=lambda info, bound_port: start_up.ready(info, host, bound_port),
    )
    try:
        make_policy.save()
    except OSError as error:
        start_up.say(f"headway: what was learned could not be kept: {error}")
    return status


@app.command
def demo() -> int:
    """See traffic outgrow this machine, with and without a promise. Ends by itself in about a minute."""
    from headway.demo import run

    return run()


# By its name: what a simulation needs is read when one is asked for.
app.command("headway.simulate:command", name="simulate", help="See what a policy does with a load, in virtual time.")
app.command("headway.bench.command:app", name="bench", help="Measure any OpenAI-compatible server.")
app.command("headway.tune.command:app", name="tune", help="Find the operating point of any OpenAI-compatible server.")
app.command("headway.plan.command:app", name="plan", help="Which GPUs keep a promise at a load, and at what cost.")


class _StartUp:
    """What the operator reads on standard error while the server starts, and after."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._stage = ""
        self._started_s = time.monotonic()
        self._live = sys.stderr.isatty()

    def progress(self, stage: str, share: float | None) -> None:
        """A stage of start-up: a line that is rewritten on a terminal, else one line a stage."""
        if self._quiet or (stage == self._stage and not self._live):
            return
        self._stage = stage
        percent = "" if share is None or not self._live else f" {100 * share:.0f} %"
        print(f"{stage}{percent} ...", end="\x1b[K\r" if self._live else "\n", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        if not self._quiet or line.startswith("headway:"):
            print(line + ("\x1b[K" if self._live else ""), file=sys.stderr, flush=True)

    def ready(self, info: ExecutorInfo, host: str, port: int) -> None:
        seconds = time.monotonic() - self._started_s
        shown = f"[{host}]" if ":" in host else host
        self.say(f"Ready in {seconds:.1f} s: {info.description}")
        self.say(f"OpenAI API on http://{shown}:{port}/v1 (Ctrl-C drains and stops)")
        if host not in ("127.0.0.1", "::1", "localhost"):
            self.say(f"Listening on {host}: reachable from the network.")


def _api_keys(path: Path | None) -> tuple[str, ...]:
    """Keys from the environment and from a file, in that order; empty lines and lines with # in front don't count."""
    keys = os.environ.get(KEYS_VARIABLE, "").split(",")
    if path is not None:
        keys += path.read_text(encoding="utf-8").splitlines()
    return tuple(key.strip() for key in keys if key.strip() and not key.strip().startswith("#"))


def _admin_key(path: Path | None) -> str | None:
    """The key from the file, else from the environment, where an empty one is none, as with API keys."""
    if path is None:
        return os.environ.get(ADMIN_KEY_VARIABLE, "").strip() or None
    return path.read_text(encoding="utf-8").strip()


def _refuse(message: str) -> int:
    print(f"headway: {message}", file=sys.stderr)
    return EXIT_USAGE


def _with_config(tokens: list[str]) -> tuple[list[str], Mapping[str, Any]]:
    """Take ``--config FILE`` out of the arguments and let the app read its options from that file too.

    Returns the other arguments, and the file's table ``[classes]``, which is no option.
    """
    classes: Mapping[str, Any] = {}
    sources: list[Any] = [cyclopts.config.Env("HEADWAY_", command=False)]
    left: list[str] = []
    given = iter(tokens)
    for token in given:
        name, equals, value = token.partition("=")
        if name != "--config":
            left.append(token)
            continue
        path = value if equals else next(given, "")
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        classes = values.pop("classes", classes)
        sources.append(cyclopts.config.Dict(values, source=path))
    app.config = sources
    return left, classes


EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code. What a user got wrong is one line on standard error and code 2."""
    try:
        tokens, classes = _with_config(sys.argv[1:] if arguments is None else arguments)
    except OSError as error:
        return _refuse(f"--config {error.filename or ''}: {error.strerror or error}")
    except ValueError as error:  # not UTF-8, or not TOML
        return _refuse(f"--config: {error}")
    try:
        command, bound, unparsed = app.parse_args(tokens, exit_on_error=False, print_error=False)
        status = command(*bound.args, **bound.kwargs, **({"classes": classes} if "classes" in unparsed else {}))
    except cyclopts.CycloptsError as error:
        return _refuse(" ".join(str(error).split()))
    except KeyboardInterrupt:  # while it is imported, or of a command that has nothing to keep
        print("headway: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
