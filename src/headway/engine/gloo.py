"""Ranks in processes of one machine, over gloo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import FileStore

RANK_TIMEOUT_S = 120.0
"""How long a rank waits for the others before it gives up, and with it the worker."""


class Gloo:
    """A ``Communicator``."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    def sum(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts, dim=-1)


@contextmanager
def meet(rank: int, size: int, rendezvous: str) -> Iterator[Gloo]:
    """As ``parallel.connect``, for more than one rank."""
    store = FileStore(rendezvous, size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=RANK_TIMEOUT_S))
    try:
        yield Gloo(rank, size)
    finally:
        dist.destroy_process_group()
