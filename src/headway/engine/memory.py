"""Memory: how much is left, and large pages of it, where the system has them.

What a step reads lies all over: with small pages, finding it takes time beside reading it, most of all in a virtual
machine, where each look-up is two.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES = 2 << 20
"""A large page."""
ARENA_BYTES = 64 << 20
"""What an arena takes at a time. What is never written of it is not handed out by the system."""
ALIGNMENT = 64
"""Of packed weights, in bytes: a cache line."""
TOUCH_S = 0.5
"""How long the start may be held up by touching memory."""
MADV_POPULATE_WRITE = 23
"""Of Linux 5.14 and later; Python has no name for it."""

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USAGE = Path("/sys/fs/cgroup/memory.current")
MEMORY_INFO = Path("/proc/meminfo")
MEMORY_UNKNOWN_BYTES = 2 << 30
"""Taken as free where the system doesn't say."""

Bytes = NDArray[np.uint8]


def large_pages(size: int) -> Bytes:
    """So many bytes of zeros, which the system hands out as they are first written."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint8)


class Arena:
    """Hands out memory piece by piece, one behind the other; it is free again when all pieces are."""

    def __init__(self) -> None:
        self._left = large_pages(ARENA_BYTES)

    def array(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array of zeros that begins at a cache line."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > self._left.nbytes:
            self._left = large_pages(max(size, ARENA_BYTES))
        piece = self._left[:size]
        self._left = self._left[-(-size // ALIGNMENT) * ALIGNMENT :]
        array: NDArray[Any] = piece.view(dtype).reshape(shape)
        return array


def touch(memory: Bytes, threads: int) -> None:
    """Have the system hand out all whole large pages of it now, as far as it does so within ``TOUCH_S``.

    First writes are slow: a virtual machine whose memory its host had yet to find took 4 ms for 2 MB, and a step that
    came upon 30 such pages took 140 ms longer than others.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise  # Python's own holds the interpreter's lock
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    first = -(-memory.ctypes.data // PAGE_BYTES) * PAGE_BYTES
    pages = iter(range(first, memory.ctypes.data + memory.nbytes - PAGE_BYTES + 1, PAGE_BYTES))
    until_s = time.monotonic() + TOUCH_S
    lock = threading.Lock()

    def go() -> None:
        while time.monotonic() < until_s:
            with lock:
                page = next(pages, None)
            if page is None or madvise(page, PAGE_BYTES, MADV_POPULATE_WRITE):  # or a system that can't
                return

    team = [threading.Thread(target=go) for _ in range(threads - 1)]
    for thread in team:
        thread.start()
    go()
    for thread in team:
        thread.join()


def available_bytes() -> int:
    """Memory that this process could still take: the machine's, or its container's if that is less."""
    available = MEMORY_UNKNOWN_BYTES
    if MEMORY_INFO.exists():
        for line in MEMORY_INFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    if CGROUP_LIMIT.exists() and CGROUP_USAGE.exists():
        limit = CGROUP_LIMIT.read_text().strip()
        if limit.isdigit():
            available = min(available, max(int(limit) - int(CGROUP_USAGE.read_text()), 0))
    return available
