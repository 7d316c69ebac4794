"""Every run that was made, and its requests: one SQLite file.

Whatever goes wrong is a ``StoreError`` of one line and leaves the file, and the caller's run, as they were.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from headway.bench.export import ExportError, run_from_json
from headway.bench.figures import Run
from headway.bench.record import Record

APPLICATION_ID = 0x48644277
"""Marks an SQLite file as one of ours ("HdBw")."""
LAYOUT = 1
LOCK_WAIT_S = 5.0
SIZE_MAX = 16 << 30
"""Bytes that the file may have."""
LATEST = "latest"

_TABLES = """
CREATE TABLE runs (id TEXT PRIMARY KEY, started_at TEXT NOT NULL, run BLOB NOT NULL) STRICT;
CREATE INDEX runs_by_time ON runs (started_at);
CREATE TABLE records (
    run TEXT NOT NULL REFERENCES runs (id), level INTEGER NOT NULL, records BLOB NOT NULL, PRIMARY KEY (run, level)
) STRICT;
"""


class StoreError(Exception):
    """The store can't be used, or has no such run. One line, with what would help."""


def default_path() -> Path:
    """In the XDG data directory."""
    given = os.environ.get("XDG_DATA_HOME", "")
    data = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "share"
    return data / "headway" / "bench.sqlite"


class Store:
    """Opened, and made if it isn't there, by ``Store(path)``; closed as a context manager. For one thread.

    ``size_max`` in bytes: beyond, it counts as full. All methods raise ``StoreError``.
    """

    def __init__(self, path: Path, *, size_max: int = SIZE_MAX) -> None:
        self.path = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
        try:
            with self._errors():
                self._prepare(size_max)
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def save(self, run: Run, records: Sequence[Sequence[Record]]) -> str:
        """Keep ``run`` with the ``records`` of each level, and return its id. What was kept of this run before is
        brought up to date: of levels whose records are there already, they are not written again. An id that another
        run has, or an empty one, is changed to a free one (``run.id`` is set)."""
        with self._errors():
            first = self._levels_kept(run)
            packed = [zlib.compress(msgspec.msgpack.encode(list(each)), 6) for each in records[first:]]
            with self._transaction():
                run.id = self._id_for(run)
                row = (run.id, run.started_at, msgspec.json.encode(run))
                self._db.execute("INSERT INTO runs VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET run = ?3", row)
                rows = [(run.id, level, blob) for level, blob in enumerate(packed, first)]
                self._db.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
        return run.id

    def load(self, name: str) -> Run:
        """A run by its id, a prefix of it that no other has, or ``latest``."""
        run_id = self.resolve(name)
        with self._errors():
            (data,) = self._db.execute("SELECT run FROM runs WHERE id = ?", (run_id,)).fetchone()
            return run_from_json(data, f"run {run_id} in {self.path}")

    def records(self, name: str) -> list[list[Record]]:
        """Its requests, level by level."""
        run_id = self.resolve(name)
        query = "SELECT records FROM records WHERE run = ? ORDER BY level"
        with self._errors():
            decode = msgspec.msgpack.Decoder(list[Record]).decode
            return [decode(zlib.decompress(blob)) for (blob,) in self._db.execute(query, (run_id,))]

    def list(self, limit: int = 100) -> list[Run]:
        """The latest first."""
        query = "SELECT run, id FROM runs ORDER BY started_at DESC, rowid DESC LIMIT ?"
        with self._errors():
            rows = self._db.execute(query, (limit,)).fetchall()
            return [run_from_json(data, f"run {run_id} in {self.path}") for data, run_id in rows]

    def resolve(self, name: str) -> str:
        """The id that ``name`` stands for."""
        latest = "SELECT id FROM runs ORDER BY started_at DESC, rowid DESC LIMIT 1"
        starts = "SELECT id FROM runs WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id <> ?1, started_at DESC LIMIT 6"
        with self._errors():
            rows = self._db.execute(latest) if name == LATEST else self._db.execute(starts, (name,))
            found = [run_id for (run_id,) in rows.fetchall()] if name else []
        if not found:
            raise StoreError(
                f"there is no run {name!r} in {self.path}; `headway bench list` shows those that there are"
            )
        if len(found) > 1 and found[0] != name and name != LATEST:
            raise StoreError(f"{name!r} may be any of the runs {', '.join(found)}")
        return str(found[0])

    def _levels_kept(self, run: Run) -> int:
        """How many levels' records there are of an earlier state of ``run``. Nobody else adds to it."""
        kept = self._db.execute("SELECT run FROM runs WHERE id = ?", (run.id,)).fetchone()
        if kept is None or not _is_earlier(kept[0], run):
            return 0
        (count,) = self._db.execute("SELECT count(*) FROM records WHERE run = ?", (run.id,)).fetchone()
        return int(count)

    def _id_for(self, run: Run) -> str:
        kept = self._db.execute("SELECT run FROM runs WHERE id = ?", (run.id,)).fetchone()
        if run.id and (kept is None or _is_earlier(kept[0], run)):
            return run.id
        taken = {run_id for (run_id,) in self._db.execute("SELECT id FROM runs")}
        return new_id(run.started_at, taken)

    def _prepare(self, size_max: int) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (layout,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION_ID and (tables or application):
            raise StoreError(f"{self.path} is a database of another program; name another file")
        if layout > LAYOUT:
            raise StoreError(f"{self.path} was written by a newer Headway (layout {layout}; this one has {LAYOUT})")
        self._db.execute("PRAGMA foreign_keys = ON")
        (page,) = self._db.execute("PRAGMA page_size").fetchone()
        self._db.execute(f"PRAGMA max_page_count = {max(1, size_max // page)}")
        if not tables:
            self._make()

    def _make(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if tables:  # made by another process in the meantime
                return
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {LAYOUT}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # a full disk ends it by itself
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(_said(self.path, error)) from None
        except (zlib.error, msgspec.MsgspecError) as error:
            raise StoreError(f"{self.path} is damaged: {error}") from None
        except ExportError as error:
            raise StoreError(str(error)) from None


def _is_earlier(data: bytes, run: Run) -> bool:
    """Whether ``data`` is the same run when it had fewer levels, and not another that began in the same second."""
    try:
        kept = run_from_json(data)
    except ExportError:
        return False
    encode = msgspec.json.encode
    is_same_start = (kept.started_at, kept.command) == (run.started_at, run.command)
    return is_same_start and encode(kept.levels) == encode(run.levels[: len(kept.levels)])


_SAID = {
    sqlite3.SQLITE_FULL: "is full, or its disk is: make room, or name another file",
    sqlite3.SQLITE_READONLY: "can't be written: it is read-only",
    sqlite3.SQLITE_CANTOPEN: "can't be opened: there is no such folder, or no right to write there",
    sqlite3.SQLITE_BUSY: f"has been locked by another process for {LOCK_WAIT_S:g} s; try again when it has ended",
    sqlite3.SQLITE_CORRUPT: "is damaged: name another file, or move it away for a new one",
    sqlite3.SQLITE_NOTADB: "is not a store of runs (no SQLite file): name another file",
}


def _said(path: Path, error: sqlite3.Error | OSError) -> str:
    if isinstance(error, OSError):
        return f"{path} can't be opened: {error.strerror}"
    code = getattr(error, "sqlite_errorcode", None)
    known = None if code is None else _SAID.get(code & 0xFF)
    return f"{path} {known}" if known is not None else f"{path} failed: {error}"


def new_id(started_at: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """A short id that is not ``taken``: month, day and a number, as 0731-2."""
    try:
        day = datetime.fromisoformat(started_at).strftime("%m%d")
    except ValueError:
        day = "run"
    number = 1
    while f"{day}-{number}" in taken:
        number += 1
    return f"{day}-{number}"
