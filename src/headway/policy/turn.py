"""Whose turn it is: a kind of work that the others leave nothing for gets some of a step all the same, now and then."""

from __future__ import annotations

STARVED_STEPS = 20
"""If so many steps in a row had no room for a kind of work, there is some in the next one."""


class Turn:
    """Sees to it that a kind of work gets some of a step at least once in ``STARVED_STEPS``."""

    def __init__(self) -> None:
        self._starved = 0

    def is_due(self, is_wanting: bool, got_some: bool) -> bool:
        """Whether the next step is to have room for it: it wants some, and got none in the last ones."""
        self._starved = self._starved + 1 if is_wanting and not got_some else 0
        if self._starved < STARVED_STEPS:
            return False
        self._starved = 0
        return True
