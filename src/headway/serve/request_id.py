"""Names of requests: unique ones of our own, and the client's where they are safe to write anywhere."""

from __future__ import annotations

import random
import re

_SAFE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def new_request_id() -> str:
    """96 random bits: unique without asking anyone.

    Not from the operating system's generator: nothing rests on these being hard to guess, and a system call gives
    Python away to another thread each time, which under a burst of requests holds the event loop up.
    """
    return f"{random.getrandbits(96):024x}"


def safe_request_id(value: bytes) -> str | None:
    """The client's own id, if it can stand in a header, a log line and a label as it is."""
    return value.decode("ascii") if _SAFE.fullmatch(value) else None
