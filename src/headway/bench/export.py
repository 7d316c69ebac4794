"""Runs and their requests as files: JSON for a run, JSONL or CSV for requests."""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from headway.bench.figures import Run
from headway.bench.record import Record

SCHEMA = "headway.bench/"
SCHEMA_VERSION = 1
"""The highest that is read here."""


class ExportError(Exception):
    """A file can't be written, or is not what it should be. One line."""


def run_to_json(run: Run) -> bytes:
    return msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n"


def run_from_json(data: bytes, source: str = "it") -> Run:
    """Raises ``ExportError``, naming ``source``, for anything but a run of a schema that is known here."""
    try:
        schema = msgspec.json.decode(data, type=_Head).schema
    except msgspec.MsgspecError:
        raise ExportError(f"{source} is no run of headway bench: it is not JSON with a schema") from None
    version = schema.removeprefix(SCHEMA)
    if not schema.startswith(SCHEMA) or not version.isdecimal():
        raise ExportError(f"{source} is no run of headway bench: its schema is {schema[:64]!r}")
    if int(version) > SCHEMA_VERSION:
        raise ExportError(
            f"{source} was written by a newer Headway: its schema is {SCHEMA}{version}, and this one reads up to "
            f"{SCHEMA}{SCHEMA_VERSION}"
        )
    try:
        return msgspec.json.decode(data, type=Run)
    except msgspec.MsgspecError as error:
        raise ExportError(f"{source} is a damaged run of headway bench: {error}") from None


class _Head(msgspec.Struct):
    schema: str


def write_run(run: Run, path: Path) -> None:
    """Whole or not at all. Raises ``ExportError``."""
    write_file(path, [run_to_json(run)])


def read_run(path: Path) -> Run:
    """Raises ``ExportError``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path} can't be read: {error.strerror}") from None
    return run_from_json(data, str(path))


class _Line(msgspec.Struct):
    level: str
    record: Record


COLUMNS = (
    *("level", "index", "service_class", "outcome", "status", "code", "error", "intended_s", "sent_s", "ended_s"),
    *("ttft_s", "tpot_s", "e2e_s", "slip_s", "queue_s", "prompt_tokens", "max_tokens", "tokens", "usage_prompt"),
    *("usage_completion", "usage_cached", "service_tier", "finish_reason", "conversation", "turn", "process"),
)
"""Of the CSV. It has no single chunks: those are in the JSONL."""


def write_requests(levels: Sequence[tuple[str, Sequence[Record]]], path: Path) -> None:
    """Every request of every named level: CSV if ``path`` ends so, else JSON lines. Raises ``ExportError``."""
    write_file(path, _csv(levels) if path.suffix == ".csv" else _lines(levels))


def _lines(levels: Sequence[tuple[str, Sequence[Record]]]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for name, records in levels:
        for record in records:
            yield encode(_Line(name, record)) + b"\n"


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet takes for a formula."""


def plain(value: object) -> object:
    """A cell of a CSV: a text of others, such as a server's error, that a spreadsheet would run is kept from it. So is
    a bare carriage return, which would end the row."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")
    return f"'{text}" if value.startswith(FORMULA) else text


def _csv(levels: Sequence[tuple[str, Sequence[Record]]]) -> Iterator[bytes]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, records in levels:
        for record in records:
            writer.writerow([plain(name), *(plain(getattr(record, column)) for column in COLUMNS[1:])])
            yield line.getvalue().encode()
            line.seek(0)
            line.truncate()
    yield line.getvalue().encode()


def write_out(data: bytes) -> None:
    """To standard output. Raises ``ExportError``."""
    try:
        sys.stdout.write(data.decode())
        sys.stdout.flush()
    except OSError as error:
        raise ExportError(f"standard output can't be written: {error.strerror}") from None


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """Beside its place first, then moved there: a full disk does no harm to what was there. A device or a pipe
    (``/dev/null``, ``>(gzip)``) is written to, and not replaced by a file. Raises ``ExportError``."""
    beside: str | None = None
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.writelines(parts)
            return
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)
        os.replace(beside, path)
    except OSError as error:
        if beside is not None and os.path.exists(beside):
            os.unlink(beside)
        raise ExportError(f"{path} can't be written: {error.strerror}") from None
