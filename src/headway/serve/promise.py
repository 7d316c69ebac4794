"""What one request is promised: its class by ``service_tier``, and its own objective by headers.

    x-slo-ttft-ms, x-slo-itl-ms, x-slo-e2e-ms      replace parts of the class's objective for this request
    x-llm-d-slo-ttft-ms, x-llm-d-slo-tpot-ms       the same, by the names of llm-d's gateway
    x-slo-allow-degraded: true | false             whether it would rather be served late than refused

llm-d's per-token objective is a mean over a request; here it bounds the 95th percentile of the gaps, which is stricter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.policy.objectives import AUTO, MS_MAX, MS_MIN, with_parts
from headway.policy.slo import Objective, ServiceClass, ServiceClasses
from headway.serve.asgi import Scope
from headway.serve.errors import ApiError, Reason
from headway.serve.fields import bad_value

SLO_HEADERS = {
    b"x-slo-ttft-ms": "ttft",
    b"x-slo-itl-ms": "itl",
    b"x-slo-e2e-ms": "e2e",
    b"x-llm-d-slo-ttft-ms": "ttft",
    b"x-llm-d-slo-tpot-ms": "itl",
    b"x-slo-tpot-ms": "itl",  # llm-d's older name
}
DEGRADED_HEADER = b"x-slo-allow-degraded"

_MILLISECONDS = re.compile(rb"\d{1,8}(\.\d{1,6})?")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request's headers ask for. ``parts_ms``: see ``objectives.with_parts``. None: they don't say."""

    parts_ms: Mapping[str, float] = field(default_factory=dict)
    allow_degraded: bool | None = None


NO_WISHES = Wishes()


@dataclass(frozen=True, slots=True)
class Promise:
    """``tier`` is the value of ``service_tier`` asked for, None if none was."""

    service_class: ServiceClass
    objective: Objective
    may_demote: bool
    tier: str | None
    classes: ServiceClasses
    """All classes, as they were when the request came."""


def read_wishes(scope: Scope) -> Wishes:
    """Raises ``ApiError`` (400) that names the header and its limits."""
    parts: dict[str, float] = {}
    names: dict[str, str] = {}
    allow_degraded: bool | None = None
    for key, value in scope["headers"]:
        if key in SLO_HEADERS:
            name, part = key.decode(), SLO_HEADERS[key]
            number = _milliseconds(name, value)
            if parts.setdefault(part, number) != number:
                raise _invalid(name, f"contradicts '{names[part]}': they mean the same")
            names.setdefault(part, name)
        elif key == DEGRADED_HEADER:
            if value not in (b"true", b"false"):
                raise _invalid(key.decode(), "must be 'true' or 'false'")
            allow_degraded = value == b"true"
    return Wishes(parts, allow_degraded)


def promise(classes: ServiceClasses, tier: str | None, wishes: Wishes) -> Promise:
    """Raises ``ApiError`` (400) for a tier that isn't one, and for an objective of a class that promises nothing."""
    chosen = classes.tiers.get(tier or AUTO)
    if chosen is None:
        raise bad_value("service_tier", f"must be one of {', '.join(classes.tiers)}", tier)
    if chosen.is_batch and wishes.parts_ms:
        name = next(key.decode() for key, part in SLO_HEADERS.items() if part in wishes.parts_ms)
        raise _invalid(name, f"is not for the class {chosen.name!r}, to which nothing is promised")
    may_demote = wishes.allow_degraded if wishes.allow_degraded is not None else tier in (None, AUTO)
    return Promise(
        chosen, with_parts(chosen.objective, wishes.parts_ms), may_demote and not chosen.is_batch, tier, classes
    )


def _milliseconds(name: str, value: bytes) -> float:
    if _MILLISECONDS.fullmatch(value) and MS_MIN <= float(value) <= MS_MAX:
        return float(value)
    raise _invalid(name, f"must be a number of milliseconds between {MS_MIN} and {MS_MAX}")


def _invalid(name: str, rule: str) -> ApiError:
    return ApiError(Reason.INVALID_HEADER, f"The header '{name}' {rule}.", param=name)
