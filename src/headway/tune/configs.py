"""A ready configuration of the operating point for each engine, with the reason of each value beside it.

Flags are those of vLLM 0.29 and later, SGLang 0.5, TGI 3 and llama.cpp builds of 2026.
"""

from __future__ import annotations

import math
import shlex
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.policy.objectives import parts_ms
from headway.policy.slo import Objective
from headway.tune.probe import Found

QUEUE_SECONDS_DEFAULT = 1.0
"""Of waiting that may be let in where no TTFT is promised."""
COMMENT_WIDTH = 96
MEASURED = {
    Found.POINT: "the largest that kept the promise",
    Found.UNDECIDED: "the best estimate; chance alone may move it",
    Found.OPEN: "the largest that was tried, and kept the promise",
    Found.CLIENT: "the largest that the client could measure, and kept the promise",
    Found.SERVER: "the largest that the server was seen to start with, and kept the promise",
    Found.CUT: "the largest seen to keep the promise before the search was cut short",
}
MEASURED_THROUGHPUT = "the smallest measured that comes near the most tokens a second"
LLAMA_CPP_BATCH = 2048
"""Its own default of ``--batch-size``: tokens that one step takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What the configurations are made of. ``tokens``: of a step, where that was tuned. ``rate``: requests a second
    that hold the promise. ``longest``: tokens of the longest prompt and answer seen. ``objectives``: by class; without
    any nothing was promised. ``found``: how sure the batch is."""

    batch: int
    tokens: int | None = None
    rate: float | None = None
    longest: int = 4096
    model: str = "MODEL"
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    found: Found = Found.POINT

    @property
    def measured(self) -> str:
        if all(each.is_empty for each in self.objectives.values()):
            return MEASURED_THROUGHPUT
        return MEASURED.get(self.found, MEASURED[Found.UNDECIDED])

    @property
    def queue(self) -> int:
        """Requests that may wait and still be on time: those that begin within the tightest TTFT."""
        waits = [each.ttft_s for each in self.objectives.values() if each.ttft_s is not None]
        return max(1, math.ceil((self.rate or 0.0) * min(waits, default=QUEUE_SECONDS_DEFAULT)))


def configs(chosen: Chosen) -> dict[str, str]:
    """By engine: text to copy."""
    return {
        "headway": _headway(chosen),
        "vllm": _vllm(chosen),
        "sglang": _sglang(chosen),
        "tgi": _tgi(chosen),
        "llama.cpp": _llama_cpp(chosen),
    }


def _headway(chosen: Chosen) -> str:
    lines = [
        "# headway serve --config FILE",
        "[serve]",
        "# Headway sizes each step by itself, as the promises below allow; this only bounds what it may try.",
        f"max_running = {_headroom(chosen.batch)}  # batch {chosen.batch} is {chosen.measured}; twice that is headroom",
    ]
    if chosen.tokens is not None:
        lines.append(f"max_step_tokens = {chosen.tokens}  # measured best at this batch")
    for name, objective in chosen.objectives.items():
        if objective.is_empty:
            continue
        lines += ["", f"[classes.{name}]"]
        for part, value in parts_ms(objective).items():
            said = "none" if value is None else value
            lines.append(f'{part}_ms = "{said}"' if value is None else f"{part}_ms = {said:g}  # held at p95")
    return "\n".join(lines) + "\n"


def _headroom(batch: int) -> int:
    return 2 * batch


def _command(comments: list[str], words: list[str], options: list[tuple[str, object]]) -> str:
    """Comments first: a line of a command that goes on has no room for them."""
    lines = [shlex.join(words), *(f"  {flag} {shlex.quote(str(value))}" for flag, value in options)]
    wrapped = [line for each in comments for line in textwrap.wrap(each, COMMENT_WIDTH)]
    return "".join(f"# {each}\n" for each in wrapped) + " \\\n".join(lines) + "\n"


def _vllm(chosen: Chosen) -> str:
    comments = [f"--max-num-seqs: batch {chosen.batch} is {chosen.measured}"]
    options: list[tuple[str, object]] = [("--max-num-seqs", chosen.batch)]
    if chosen.tokens is not None:
        comments.append(
            "--max-num-batched-tokens: measured best at this batch; more is a sooner first token, longer gaps"
        )
        options.append(("--max-num-batched-tokens", max(chosen.tokens, chosen.batch)))
    if chosen.rate is not None:
        comments.append(
            f"--max-num-queued-reqs (0.29 and later): at {chosen.rate:.3g} requests/s more than {chosen.queue} beyond"
            " the batch would begin too late; the rest is answered 503 at once"
        )
        options.append(("--max-num-queued-reqs", chosen.batch + chosen.queue))
    return _command(comments, ["vllm", "serve", chosen.model], options)


def _sglang(chosen: Chosen) -> str:
    comments = [f"--max-running-requests: batch {chosen.batch} is {chosen.measured}"]
    options: list[tuple[str, object]] = [("--max-running-requests", chosen.batch)]
    if chosen.tokens is not None:
        comments.append("--chunked-prefill-size: prompt tokens of a step; measured best at this batch")
        options.append(("--chunked-prefill-size", chosen.tokens))
    if chosen.rate is not None:
        comments.append(f"--max-queued-requests: more than {chosen.queue} that wait would begin too late")
        options.append(("--max-queued-requests", chosen.queue))
    words = ["python", "-m", "sglang.launch_server", "--model-path", chosen.model]
    return _command(comments, words, options)


def _tgi(chosen: Chosen) -> str:
    waiting = chosen.queue if chosen.rate is not None else 0
    comments = [
        f"--max-concurrent-requests: batch {chosen.batch} is {chosen.measured}"
        + (f", and {waiting} more may wait; the rest is answered 429" if waiting else "; the rest is answered 429"),
        f"--max-batch-total-tokens: room for {chosen.batch} requests of the longest seen, {chosen.longest} tokens,"
        " which is what bounds the batch on NVIDIA (--max-batch-size is for other hardware); less if memory is short",
    ]
    options: list[tuple[str, object]] = [
        ("--max-concurrent-requests", chosen.batch + waiting),
        ("--max-batch-total-tokens", chosen.batch * chosen.longest),
    ]
    if chosen.tokens is not None:
        comments.append("--max-batch-prefill-tokens: prompt tokens of a step; measured best at this batch")
        options.append(("--max-batch-prefill-tokens", chosen.tokens))
    return _command(comments, ["text-generation-launcher", "--model-id", chosen.model], options)


def _llama_cpp(chosen: Chosen) -> str:
    comments = [
        f"--parallel: slots, which are its batch; {chosen.batch} is {chosen.measured}",
        f"--ctx-size is shared by all slots: {chosen.longest} tokens for each, the longest seen",
    ]
    options: list[tuple[str, object]] = [("--parallel", chosen.batch), ("--ctx-size", chosen.batch * chosen.longest)]
    tokens = chosen.tokens or (chosen.batch if chosen.batch > LLAMA_CPP_BATCH else None)
    if tokens is not None:
        comments.append("--batch-size: tokens of a step; not below the number of slots")
        options.append(("--batch-size", max(tokens, chosen.batch)))
    return _command(comments, ["llama-server", "--model", chosen.model], options)
