"""Workloads by what is written: ``parse("chat:out=64", tokens, api="chat")``.

The language is ``NAME``, ``NAME:key=value,...`` or ``NAME:FILE,key=value,...``; ``listing`` and ``options`` say which
names and keys there are.
"""

from __future__ import annotations

from collections.abc import Mapping

from headway.bench import jsonl, presets, sharegpt
from headway.bench.files import ROWS_MAX
from headway.bench.lengths import FORMS
from headway.bench.replay import Replay, replay
from headway.bench.target import Api
from headway.bench.tokens import Tokens
from headway.bench.trace_files import read_azure, read_mooncake
from headway.bench.workload_interface import Workload, WorkloadError
from headway.bench.workload_options import Options, split_spec
from headway.traces.packaged import Trace, packaged

__all__ = ["EXAMPLES", "Workload", "WorkloadError", "listing", "options", "parse"]

TRACES = {
    "azure-conv": (
        "azure_conv",
        "Azure's conversations of 2023: their times, prompts around 1,150 tokens, answers 210",
    ),
    "azure-code": ("azure_code", "Azure's code completion of 2023: bursts of prompts around 2,050 tokens, answers 28"),
    "mooncake": ("mooncake_conversation", "Kimi's conversations: prompts around 12,000 tokens that share prefixes"),
}
FILES = {
    "azure:FILE": "a trace of Azure's: CSV with TIMESTAMP,ContextTokens,GeneratedTokens",
    "mooncake:FILE": "a trace like Mooncake's: JSONL with timestamp (ms), input_length, output_length, hash_ids",
    "sharegpt:FILE": "conversations as in ShareGPT's JSON: the users' texts, answers as long as theirs",
    "jsonl:FILE": f"a request a line, with {', '.join(jsonl.FIELDS)}",
}
CLASSES = "classes:NAME=SHARE,..."
TRACE_KEYS = {
    "rows": "the first so many requests of a file",
    "scale": "all lengths times this",
    "class": "service class",
    "tier": "service_tier that is sent",
    "exact": presets.KEYS["exact"],
}
EXAMPLES = (
    "synthetic:in=lognormal(96,0.8,16,256),out=constant(64)",
    "shared-prefix:prefixes=8,prefix=2048,zipf=1.2",
    "chat:turns=4,think=exponential(2)",
    "classes:conversational=0.7,batch=0.3,batch.like=long,batch.scale=0.1",
    "azure-conv:scale=0.25",
    "sharegpt:conversations.json,rows=500",
    "jsonl:requests.jsonl,out=128",
)


def parse(spec: str, tokens: Tokens, *, api: Api, context: int | None = None) -> Workload:
    """The workload that is written. ``context``: the most tokens that the server takes, prompt and answer together,
    where that is known: drawn workloads that could ask for more are refused, and of the others what doesn't fit is
    left out, which ``describe`` says. Raises ``WorkloadError``."""
    options = split_spec(spec)
    name = options.name
    if name in presets.PRESETS:
        return presets.build_preset(spec, options, tokens, api=api, context=context)
    if name == "classes":
        return presets.build_classes(spec, options, tokens, api=api, context=context)
    if name == "sharegpt":
        return sharegpt.build_sharegpt(spec, options, tokens, api=api, context=context)
    if name == "jsonl":
        return jsonl.build_jsonl(spec, options, tokens, api=api, context=context)
    if name in TRACES or name == "azure":
        return _replay(spec, options, tokens, context)
    names = ", ".join(each.partition(":")[0] if each == CLASSES else each for each in listing())
    raise WorkloadError(f"there is no workload {name!r}; there are {names}")


def listing() -> dict[str, str]:
    """What there is: a line for each name."""
    drawn = {name: text for name, (text, _) in presets.PRESETS.items()}
    mix = {CLASSES: "service classes by share; NAME.like=PRESET and NAME.key=value say what one asks for"}
    return drawn | mix | {name: text for name, (_, text) in TRACES.items()} | FILES


def options() -> dict[str, Mapping[str, str]]:
    """The keys of each family of workloads, and how distributions are written."""
    return {
        ", ".join(presets.PRESETS): presets.KEYS,
        ", ".join([*TRACES, "azure:FILE", "mooncake:FILE"]): TRACE_KEYS,
        "sharegpt:FILE": sharegpt.KEYS,
        "jsonl:FILE": jsonl.KEYS,
        "fields of a line of jsonl": jsonl.FIELDS,
        "distributions": FORMS,
    }


def _replay(spec: str, options: Options, tokens: Tokens, context: int | None) -> Replay:
    rows = options.integer("rows", ROWS_MAX, least=1, most=ROWS_MAX)
    scale = options.scale()
    service_class = options.service_class()
    tier = options.tier(service_class)
    is_exact = options.flag("exact", True)
    options.finish(takes_file=options.name in ("azure", "mooncake"))
    trace = _trace(options, rows)
    return replay(
        spec,
        tokens,
        trace,
        scale=scale,
        context=context,
        service_class=service_class,
        tier=tier,
        is_exact=is_exact,
    )


def _trace(options: Options, rows: int) -> Trace:
    if options.name == "azure" or options.file:
        path = options.path()
        return read_azure(path, rows) if options.name == "azure" else read_mooncake(path, rows)
    trace = packaged(TRACES[options.name][0])
    return Trace(trace.rows[:rows], trace.bucket_s)
