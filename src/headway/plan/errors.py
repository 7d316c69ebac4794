"""What a user can ask in a way that has no answer."""

from __future__ import annotations


class PlanError(ValueError):
    """One line that says what is wrong and what would work."""
