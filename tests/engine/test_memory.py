"""Memory in large pages: zeros, aligned, and there before it is needed."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from headway.engine import memory
from headway.engine.memory import ALIGNMENT, ARENA_BYTES, PAGE_BYTES, Arena, large_pages, touch


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_it_is_zero_and_can_be_written() -> None:
    room = large_pages(3 * PAGE_BYTES + 5)
    touch(room, 2)
    assert not room.any()
    room[:] = 7
    assert room.sum(dtype=np.int64) == 7 * room.nbytes


def test_touching_keeps_what_was_written() -> None:
    room = large_pages(4 * PAGE_BYTES)
    room[::1000] = 3
    touch(room, 2)
    assert (room[::1000] == 3).all()
    assert room.sum(dtype=np.int64) == 3 * len(room[::1000])


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is there")
def test_what_was_touched_is_there_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that was the first to write to a block of the cache took 140 ms longer than others: 30 layers' pages."""
    monkeypatch.setattr(memory, "TOUCH_S", 60.0)
    size = 32 * PAGE_BYTES
    room = large_pages(size)
    before = resident_bytes()
    touch(room, 2)
    if resident_bytes() - before < PAGE_BYTES:  # the threads' own
        pytest.skip("a system that can't")
    assert resident_bytes() - before > 0.9 * (size - 2 * PAGE_BYTES)
    before = resident_bytes()
    room[:] = 1
    assert resident_bytes() - before <= 4 * PAGE_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is there")
def test_touching_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TOUCH_S", 0.0)
    room = large_pages(32 * PAGE_BYTES)
    before = resident_bytes()
    touch(room, 2)
    assert resident_bytes() - before <= 4 * PAGE_BYTES
    assert not room.any()


def test_an_arena_s_pieces_are_aligned_and_do_not_touch_each_other() -> None:
    arena = Arena()
    shapes = [(3, 5), (7,), (0, 4), (ARENA_BYTES // 2,), (ARENA_BYTES // 4, 2), (2 * ARENA_BYTES,), (1, 1)]
    pieces = [arena.array(shape, np.uint16 if index % 2 else np.int8) for index, shape in enumerate(shapes)]
    assert sum(piece.size for piece in pieces) > ARENA_BYTES
    for index, piece in enumerate(pieces):
        assert piece.shape == shapes[index]
        assert piece.ctypes.data % ALIGNMENT == 0
        piece[...] = index + 1
    for index, piece in enumerate(pieces):
        assert (piece == index + 1).all()
