"""How many tokens a step may take. The seam for a controller that adapts: the scheduler only asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BudgetView:
    """What the next step could take. ``decodes`` requests need one token each; the other numbers are tokens."""

    now: float
    decodes: int
    prefill_tokens: int
    waiting_tokens: int


class Budget(Protocol):
    def tokens(self, view: BudgetView) -> int:
        """The most tokens the next step takes: at least 1."""
        ...


@dataclass(frozen=True, slots=True)
class StaticBudget:
    """The same number for every step."""

    limit: int

    def tokens(self, view: BudgetView) -> int:
        return self.limit
