"""Reading the files of workloads: whole, within limits, and with one clear line for what is wrong in which line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from headway.bench.workload_interface import WorkloadError

FILE_BYTES_MAX = 1 << 30
LINE_BYTES_MAX = 8 << 20
"""A million token ids fit. Packed for a load generator process, no line has more than a few times as much."""
ROWS_MAX = 1_000_000
_MARK = b"\xef\xbb\xbf"

Row = TypeVar("Row")


def read_file(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise WorkloadError(f"{path}: {size:,} bytes; {FILE_BYTES_MAX:,} can be read, cut a part of it")
        return path.read_bytes().removeprefix(_MARK)
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror or error}") from None


def lines(path: Path, rows: int) -> Iterator[tuple[int, bytes]]:
    """Numbers, from 1, and contents of the first ``rows`` lines that are not empty."""
    size = path.stat().st_size if path.exists() else 0
    if size > FILE_BYTES_MAX:
        raise WorkloadError(f"{path}: {size:,} bytes; {FILE_BYTES_MAX:,} can be read, cut a part of it")
    try:
        with path.open("rb") as file:
            number = 0
            while rows and (line := file.readline(LINE_BYTES_MAX + 1)):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise WorkloadError(
                        f"{path}, line {number}: longer than {LINE_BYTES_MAX:,} bytes, the most of a request"
                    )
                line = line.removeprefix(_MARK if number == 1 else b"").strip()
                if line:
                    rows -= 1
                    yield number, line
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror or error}") from None


def json_rows(path: Path, rows: int, kind: type[Row], help: str) -> Iterator[tuple[int, Row]]:
    """The first ``rows`` lines of a JSONL file. ``help`` says what a line should be."""
    decoder = msgspec.json.Decoder(kind)
    for number, line in lines(path, rows):
        try:
            yield number, decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WorkloadError(f"{path}, line {number}: {reason(error)}; {help}") from None


def reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    return f"not JSON, or cut off ({error})"


def seconds_of(text: str) -> float:
    """A date and time as ISO 8601 has it, in seconds. Raises ValueError."""
    found = datetime.fromisoformat(text.strip())
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
