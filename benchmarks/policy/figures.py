"""What a benchmark hands back."""

from __future__ import annotations

import sys

Figure = float | int | str | None


def ratio(value: float, against: float, digits: int = 3) -> float | None:
    """None where there is nothing to compare with."""
    return round(value / against, digits) if against else None


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
