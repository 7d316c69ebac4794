"""Keeping what was measured: after every level, wherever it is to go, and somewhere else if that fails."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.bench.export import ExportError, run_to_json, write_file, write_out, write_requests, write_run
from headway.bench.figures import Run
from headway.bench.record import Record
from headway.bench.report.csv import rows
from headway.bench.report.html import page
from headway.bench.store import Store, StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where results go; None: not there. ``json`` may be - for standard output."""

    json: Path | None = None
    html: Path | None = None
    csv: Path | None = None
    requests: Path | None = None
    store: Path | None = None

    @property
    def is_piped(self) -> bool:
        return self.json == Path("-")


class Keeper:
    """Writes a run to its files. What can't be written is a line in ``said``, and sets ``has_failed``."""

    def __init__(self, files: Files) -> None:
        self.run: Run | None = None
        self.records: list[list[Record]] = []
        self.said: list[str] = []
        self.has_failed = False
        self._files = files
        self._is_kept = False

    def keep(self, records: Sequence[Record]) -> None:
        """A level has been added to ``run``; these are its requests. The store and the JSON file are written again,
        and if neither could be, a file in the temporary directory, or else standard output, has the run."""
        run, files = self.run, self._files
        assert run is not None
        self.records.append(list(records))
        self.said, self.has_failed = [], False
        is_kept = False
        if (store := files.store) is not None:
            is_kept |= self._try(lambda: self._store(run, store))
        if (path := files.json) is not None and not files.is_piped:
            is_kept |= self._try(lambda: write_run(run, path), f"{path}: all figures")
        self._is_kept = is_kept
        if self.has_failed and not (is_kept or files.is_piped):
            self._rescue(run)

    def finish(self) -> None:
        """The other files, once."""
        run, files = self.run, self._files
        assert run is not None
        if files.is_piped and not self._try(lambda: write_out(run_to_json(run))) and not self._is_kept:
            self._rescue(run)
        if (csv := files.csv) is not None:
            self._try(lambda: write_file(csv, [rows(run).encode()]), f"{csv}: a row for each level and class")
        if (requests := files.requests) is not None:
            levels = [(level.name, records) for level, records in zip(run.levels, self.records, strict=True)]
            self._try(lambda: write_requests(levels, requests), f"{requests}: every request")
        if (html := files.html) is not None:
            text = page(run, dict(enumerate(self.records)))
            self._try(lambda: write_file(html, [text.encode()]), f"{html}: the report")

    def fail(self, why: str) -> None:
        self.said.append(f"headway: {why}")
        self.has_failed = True

    def _store(self, run: Run, path: Path) -> None:
        with Store(path) as store:
            store.save(run, self.records)
        self.said.append(f"Kept as {run.id}: headway bench show {run.id}, headway bench compare {run.id} OTHER")

    def _try(self, write: Callable[[], None], done: str = "") -> bool:
        try:
            write()
        except (StoreError, ExportError) as error:
            self.fail(str(error))
            return False
        if done:
            self.said.append(done)
        return True

    def _rescue(self, run: Run) -> None:
        path = Path(tempfile.gettempdir()) / f"headway-bench-{run.id}.json"
        try:
            write_run(run, path)
            self.said.append(f"headway: so all figures are in {path}")
        except ExportError:
            sys.stdout.write(run_to_json(run).decode())
            self.said.append("headway: so all figures were written to standard output")
