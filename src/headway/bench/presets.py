"""The drawn workloads that have a name, and how each is changed by options."""

from __future__ import annotations

from headway.bench.drawn import PREFIXES_MAX, THINK_S_MAX, TURNS_MAX, Drawn, Kind
from headway.bench.lengths import Constant, Exponential, Lognormal, Uniform
from headway.bench.target import Api
from headway.bench.tokens import Tokens
from headway.bench.workload_interface import WorkloadError, check_context
from headway.bench.workload_options import CLASS_NAME, Options
from headway.policy.slo import CLASSES_MAX

_CHAT = Kind(input=Lognormal(512, 1.0, 16, 4096), output=Lognormal(200, 0.8, 4, 1200))
_SHORT = Kind(input=Lognormal(96, 0.8, 16, 256), output=Constant(64))
_LONG = Kind(input=Lognormal(4000, 0.4, 2000, 8000), output=Lognormal(150, 0.6, 4, 600))
_PREFIXES = Kind(
    input=Lognormal(96, 0.8, 16, 512), output=Lognormal(128, 0.6, 8, 512), prefixes=16, prefix=Constant(1024), zipf=1.0
)
_CONVERSATION = Kind(
    input=Lognormal(128, 0.8, 16, 512),
    output=Lognormal(128, 0.6, 8, 512),
    turns=Uniform(2, 6),
    next_input=Lognormal(64, 0.8, 4, 256),
    think_s=Exponential(2, 0.2, 10),
)

PRESETS: dict[str, tuple[str, Kind]] = {
    "synthetic": ("128 tokens in, 128 out: change what you like", Kind(input=Constant(128), output=Constant(128))),
    "chat": ("prompts around 512 tokens, answers around 200, both with long tails", _CHAT),
    "short": ("prompts of 16 to 256 tokens, answers of 64", _SHORT),
    "long": ("documents of 2,000 to 8,000 tokens, answers around 150", _LONG),
    "code": (
        "completion of code: prompts around 1,500 tokens, answers around 20",
        Kind(input=Lognormal(1500, 0.8, 32, 7000), output=Lognormal(20, 0.8, 2, 256)),
    ),
    "shared-prefix": ("16 prefixes of 1,024 tokens, some much more frequent (Zipf), then a short question", _PREFIXES),
    "conversation": ("2 to 6 turns, each sent with all that was said before, with pauses to think", _CONVERSATION),
}
CLASS_DEFAULTS = {"interactive": "short", "batch": "long"}
"""What requests of a class are like, unless it is said: chat."""
KEYS = {
    "in": "tokens of a prompt, without its shared prefix",
    "out": "tokens of an answer",
    "prefixes": "how many shared prefixes there are",
    "prefix": "tokens of each",
    "zipf": "how unevenly they come; 0: evenly",
    "turns": "messages of the user in a conversation",
    "next": "tokens of those after the first",
    "think": "seconds between an answer and the next message",
    "scale": "all lengths times this",
    "class": "service class, the objective that it is held against",
    "tier": "service_tier that is sent; none: the field is left out",
    "exact": "yes: the server is asked for answers of just that length; no: they may end earlier",
}


def build_preset(spec: str, options: Options, tokens: Tokens, *, api: Api, context: int | None) -> Drawn:
    kind = _kind(options, PRESETS[options.name][1], api)
    options.finish()
    check_context(options.name, kind.longest, options.scale(), context)
    return Drawn(spec, tokens, (kind,))


def build_classes(spec: str, options: Options, tokens: Tokens, *, api: Api, context: int | None) -> Drawn:
    """``classes:NAME=SHARE,...``, and for each ``NAME.like=PRESET`` and ``NAME.key=value``; ``scale`` and ``tier`` for
    all of them."""
    names = [key for key in options.given if "." not in key and key not in ("scale", "tier")]
    if not 1 <= len(names) <= CLASSES_MAX:
        raise WorkloadError(
            f"{options.name} needs 1 to {CLASSES_MAX} classes and their shares: classes:conversational=0.7,batch=0.3"
        )
    scale, tier = options.scale(), options.word("tier")
    kinds = tuple(_class_kind(options, name, tier, api).scaled(scale) for name in names)
    options.finish()
    for name, kind in zip(names, kinds, strict=True):
        check_context(f"{options.name}: {name}", kind.longest, scale, context)
    return Drawn(spec, tokens, kinds)


def _class_kind(options: Options, name: str, tier: str | None, api: Api) -> Kind:
    if not CLASS_NAME.fullmatch(name):
        raise WorkloadError(f"{options.name}: a class is named by a short word, not {name!r}")
    share = options.number(name, 0.0, least=1e-6, most=1e6)
    own = {key.removeprefix(f"{name}."): value for key, value in options.given.items() if key.startswith(f"{name}.")}
    inner = Options(f"{options.name}: {name}", None, own if tier is None else {"tier": tier, **own})
    like = inner.word("like") or CLASS_DEFAULTS.get(name, "chat")
    if like not in PRESETS:
        raise WorkloadError(f"{inner.name}: like must be one of {', '.join(PRESETS)}, not {like!r}")
    kind = _kind(inner, PRESETS[like][1], api, share=share, service_class=name)
    inner.finish()
    options.known |= {f"{name}.{key}": None for key in inner.known}
    return kind


def _kind(options: Options, base: Kind, api: Api, *, share: float = 1.0, service_class: str = "") -> Kind:
    service_class = service_class or options.service_class()
    turns = options.distribution("turns", base.turns, most=TURNS_MAX)
    if turns.high > 1 and api != "chat":
        raise WorkloadError(f"{options.name}: conversations of several turns need the chat API; turns=1 doesn't")
    prefixes = options.integer("prefixes", base.prefixes, least=0, most=PREFIXES_MAX)
    kind = Kind(
        input=options.distribution("in", base.input),
        output=options.distribution("out", base.output),
        prefixes=prefixes,
        prefix=options.distribution("prefix", base.prefix if base.prefixes else Constant(1024)),
        zipf=options.number("zipf", base.zipf, least=0, most=10),
        turns=turns,
        next_input=options.distribution("next", base.next_input),
        think_s=options.distribution("think", base.think_s, least=0, most=THINK_S_MAX),
        share=share,
        service_class=service_class,
        tier=options.tier(service_class),
        is_exact=options.flag("exact", True),
    )
    unused = [key for key in ("prefix", "zipf") if key in options.given and not prefixes]
    unused += [key for key in ("next", "think") if key in options.given and turns.high <= 1]
    if unused:
        needs = "prefixes" if unused[0] in ("prefix", "zipf") else "turns"
        raise WorkloadError(f"{options.name}: {unused[0]} means nothing without {needs}")
    return kind.scaled(options.scale())
