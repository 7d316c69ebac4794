"""Tensor parallelism: what the ranks of one model say to each other.

Every rank holds a slice of each weight and of the KV cache, runs the same plans in the same order, and meets the
others twice a block: after the attention's output projection and after the feed-forward's down projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Communicator(Protocol):
    """One rank's line to the others. ``rank`` counts from 0 to ``size - 1``; every rank makes the same calls."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over all ranks, the same on each. May overwrite ``values``."""
        ...

    def gather(self, values: Tensor) -> Tensor:
        """``values`` of all ranks (each of the same shape) side by side along the last dimension."""
        ...


class Alone:
    """The only rank."""

    rank = 0
    size = 1

    def sum(self, values: Tensor) -> Tensor:
        return values

    def gather(self, values: Tensor) -> Tensor:
        return values


@contextmanager
def connect(rank: int, size: int, rendezvous: str) -> Iterator[Communicator]:
    """A rank's communicator, as long as the context lasts. A single rank needs no rendezvous.

    ``rendezvous`` is the path of a file that must not exist before the first rank arrives; every rank is given the
    same one. Meeting through a file, ranks agree on no port.
    """
    assert 0 <= rank < size
    if size == 1:
        yield Alone()
        return
    from headway.engine.gloo import meet  # here, since a single rank does without torch

    with meet(rank, size, rendezvous) as communicator:
        yield communicator
