"""Trace files as their authors publish them, read onto the form of the packaged ones.

Azure (LLM inference traces of 2023 and 2024): CSV with ``TIMESTAMP,ContextTokens,GeneratedTokens``. Mooncake: JSONL
with ``timestamp`` (ms), ``input_length``, ``output_length`` and perhaps ``hash_ids``, a label for each block of 512
tokens.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import msgspec

from headway.bench.files import ROWS_MAX, json_rows, lines, seconds_of
from headway.bench.workload_interface import TOKENS_MAX, WorkloadError
from headway.traces.packaged import MOONCAKE_BUCKET_S, Row, Trace

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_AZURE_HELP = f"a line has {','.join(AZURE_COLUMNS)}"
_MOONCAKE_HELP = "a line is {timestamp, input_length, output_length, hash_ids}"


class MooncakeRow(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


def read_azure(path: Path, rows: int = ROWS_MAX) -> Trace:
    """The first ``rows`` requests. Raises ``WorkloadError``."""
    numbered = lines(path, rows + 1)
    header = next(numbered, None)
    if header is None:
        raise WorkloadError(f"{path} is empty; {_AZURE_HELP}")
    names = [name.strip() for name in header[1].decode("utf-8", "replace").split(",")]
    missing = [name for name in AZURE_COLUMNS if name not in names]
    if missing:
        raise WorkloadError(f"{path}, line {header[0]}: no column {missing[0]}; {_AZURE_HELP}")
    places = [names.index(name) for name in AZURE_COLUMNS]
    return _trace(path, [_azure_row(path, number, line, places) for number, line in numbered])


def read_mooncake(path: Path, rows: int = ROWS_MAX) -> Trace:
    """The first ``rows`` requests. Times that are all whole steps of 3 s, as in the published files, are taken for
    rounded. Raises ``WorkloadError``."""
    found = []
    for number, row in json_rows(path, rows, MooncakeRow, _MOONCAKE_HELP):
        _check(path, number, row.input_length, row.output_length)
        found.append(Row(row.timestamp / 1000, row.input_length, row.output_length, row.hash_ids))
    trace = _trace(path, found)
    is_rounded = len(trace.rows) > 1 and all(row.arrived_s % MOONCAKE_BUCKET_S == 0 for row in trace.rows)
    return Trace(trace.rows, MOONCAKE_BUCKET_S if is_rounded else 0.0)


def _azure_row(path: Path, number: int, line: bytes, places: list[int]) -> Row:
    try:
        cells = next(csv.reader([line.decode()]))
        when, prompt, output = (cells[place] for place in places)
        row = Row(seconds_of(when), int(prompt), int(output))
    except (ValueError, IndexError, csv.Error):
        raise WorkloadError(
            f"{path}, line {number}: {line[:80]!r} can't be read, or is cut off; {_AZURE_HELP}"
        ) from None
    _check(path, number, row.prompt_tokens, row.output_tokens)
    return row


def _check(path: Path, number: int, *lengths: int) -> None:
    for length in lengths:
        if not 0 <= length <= TOKENS_MAX:
            raise WorkloadError(f"{path}, line {number}: a length must be 0 to {TOKENS_MAX:,} tokens, not {length:,}")


def _trace(path: Path, rows: list[Row]) -> Trace:
    """In order of time, from the first row on."""
    rows.sort(key=lambda row: row.arrived_s)
    if not rows:
        raise WorkloadError(f"{path} has no requests")
    start_s = rows[0].arrived_s
    return Trace(tuple(replace(row, arrived_s=row.arrived_s - start_s) for row in rows))
