"""Runs are kept whole, or it is said why not; nothing that was there is lost."""

from __future__ import annotations

import csv
import json
import sqlite3
import zlib
from pathlib import Path

import msgspec
import pytest

import headway.bench.store as store_module
from headway.bench.export import ExportError, read_run, run_from_json, run_to_json, write_requests, write_run
from headway.bench.figures import Level, Run
from headway.bench.metrics import measure
from headway.bench.record import Outcome, Record
from headway.bench.store import Store, StoreError, default_path, new_id
from tests.bench.made_records import failure, reply

STARTED = "2026-07-31T12:00:00Z"


def records(count: int = 20) -> list[list[Record]]:
    made = [reply(at, 0.1, [0.01] * 9, index=at) for at in range(count)]
    return [[*made, failure(3.0, Outcome.TIMEOUT)], []]


def run(started_at: str = STARTED, run_id: str = "", note: str = "") -> Run:
    levels = [Level(name="1 at once", classes=measure(records()[0], (0.0, 30.0), {})), Level(name="2 at once")]
    return Run(id=run_id, started_at=started_at, note=note, levels=levels)


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "bench.sqlite"
    with Store(path) as store:
        saved = run(note="first")
        assert store.save(saved, records()) == saved.id == "0731-1"
    with Store(path) as store:
        assert store.load("0731-1") == saved
        assert store.records("0731-1") == records()
        assert [each.id for each in store.list()] == ["0731-1"]


def test_runs_are_found_by_prefix_and_the_latest_by_name(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        for started_at in ("2026-07-31T12:00:00Z", "2026-08-01T09:00:00Z", "2026-07-31T13:00:00Z"):
            store.save(run(started_at), [])
        assert [each.id for each in store.list()] == ["0801-1", "0731-2", "0731-1"]
        assert [each.id for each in store.list(limit=1)] == ["0801-1"]
        assert store.resolve("latest") == store.resolve("08") == "0801-1"
        with pytest.raises(StoreError, match=r"'0731' may be any of the runs 0731-2, 0731-1"):
            store.resolve("0731")
        for name in ("0730", "", "%", "____-1"):
            with pytest.raises(StoreError, match=f"there is no run '{name}'"):
                store.load(name)


def test_a_whole_id_is_no_prefix(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        for _ in range(11):
            run_id = store.save(run(f"2026-07-31T12:00:{_:02}Z"), [])
        assert run_id == "0731-11"
        assert store.resolve("0731-1") == "0731-1"


def test_the_same_run_is_replaced_and_another_one_of_its_name_is_not(tmp_path: Path) -> None:
    """A run is kept after each of its levels; two processes may have taken the same id meanwhile."""
    with Store(tmp_path / "store") as one, Store(tmp_path / "store") as two:
        first = run(run_id="0731-1", note="partial")
        one.save(first, records()[:1])
        first.note = "complete"
        assert one.save(first, records()) == "0731-1"
        other = run("2026-07-31T12:34:56Z", run_id="0731-1")
        assert two.save(other, []) == other.id == "0731-2"
        assert two.load("0731-1").note == "complete"
        assert len(two.records("0731-1")) == 2


def test_the_requests_of_a_level_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of 40 levels all of them were packed and written again: hours of a search at the end."""
    packed: list[int] = []
    compress = zlib.compress

    def counted(data: bytes, level: int) -> bytes:
        packed.append(len(data))
        return compress(data, level)

    monkeypatch.setattr("headway.bench.store.zlib.compress", counted)
    growing = run(run_id="0731-1")
    levels, given = list(growing.levels) * 2, records() * 2
    with Store(tmp_path / "store") as store:
        for count in range(1, 5):
            growing.levels = levels[:count]
            assert store.save(growing, given[:count]) == "0731-1"
        assert len(packed) == 4
        assert store.records("0731-1") == given
        assert store.load("0731-1") == growing


def test_two_runs_that_began_in_the_same_second_are_both_kept(tmp_path: Path) -> None:
    """Each is kept from its first level on, by a process that knows nothing of the other."""
    one, two = (run(run_id="0731-1") for _ in range(2))
    levels = [Level(name=name, elapsed_s=float(at)) for at, name in enumerate("abcd")]
    one.levels, two.levels = levels[:1], levels[1:2]
    with Store(tmp_path / "store") as store:
        assert (store.save(one, []), store.save(two, [])) == ("0731-1", "0731-2")
        one.levels, two.levels = [levels[0], levels[2]], [levels[1], levels[3]]
        assert (store.save(one, []), store.save(two, [])) == ("0731-1", "0731-2")
        assert (store.load("0731-1"), store.load("0731-2")) == (one, two)
        assert len(store.list()) == 2


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path) as store:
        kept = run()
        store.save(kept, records())
    with Store(path, size_max=64 << 10) as store:
        new = run("2026-08-01T12:00:00Z")
        unlike = [[reply(at, 0.1 + at * 0.618 % 1, [at * 0.414 % 1 + 0.001] * 20, index=at) for at in range(4000)]]
        with pytest.raises(StoreError, match="is full, or its disk is"):
            store.save(new, unlike)
        assert [each.id for each in store.list()] == [kept.id]
        assert store.records(kept.id) == records()
        store.save(new, [])  # and it goes on
    write_run(new, tmp_path / "instead.json")
    assert read_run(tmp_path / "instead.json") == new


def test_a_store_that_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOCK_WAIT_S", 0.01)
    path = tmp_path / "store"
    with Store(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="has been locked by another process"):
            store.save(run(), records())
        assert store.list() == []  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        store.save(run(), records())


def test_a_store_that_is_read_only(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path) as store:
        store.save(run(), records())
        store._db.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="read-only"):
            store.save(run("2026-08-01T12:00:00Z"), records())
        assert len(store.list()) == 1


def test_places_where_there_can_be_no_store(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("something else entirely, and long enough to be looked at as a header of a database" * 20)
    with pytest.raises(StoreError, match="can't be opened"):
        Store(file / "bench.sqlite")
    with pytest.raises(StoreError, match="can't be opened"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="is not a store of runs"):
        Store(file)
    assert file.read_text().startswith("something else")


def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE notes (text)")
    other.commit()
    with pytest.raises(StoreError, match="is a database of another program"):
        Store(path)
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("notes",)]
    other.close()


def test_a_store_of_a_newer_headway(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path) as store:
        store._db.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="newer Headway"):
        Store(path)


def test_a_damaged_store(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path) as store:
        for second in range(50):
            store.save(run(f"2026-07-31T12:00:{second:02}Z"), records())
        store._db.execute("UPDATE records SET records = x'00ff' WHERE run = '0731-1'")
        with pytest.raises(StoreError, match="is damaged"):
            store.records("0731-1")
        store._db.execute("UPDATE runs SET run = x'00ff' WHERE id = '0731-1'")
        with pytest.raises(StoreError, match=r"run 0731-1 in .* is no run of headway bench"):
            store.load("0731-1")
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    with Store(path) as store, pytest.raises(StoreError, match="is damaged"):
        store.list()


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path() == tmp_path / "headway" / "bench.sqlite"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_path() == Path("/home/someone/.local/share/headway/bench.sqlite")


def test_ids() -> None:
    assert new_id(STARTED) == "0731-1"
    assert new_id(STARTED, {"0731-1", "0731-2"}) == "0731-3"
    assert new_id("whenever") == "run-1"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"\x00", "it is not JSON with a schema"),
        (b"{}", "it is not JSON with a schema"),
        (b'{"schema": "other/1"}', "its schema is 'other/1'"),
        (b'{"schema": "headway.bench/one"}', "its schema is"),
        (
            b'{"schema": "headway.bench/2", "id": 5}',
            "newer Headway: its schema is headway.bench/2, and this one reads up",
        ),
        (b'{"schema": "headway.bench/1"}', "damaged run"),
    ],
)
def test_what_is_no_run(data: bytes, line: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(data)
    with pytest.raises(ExportError, match=line) as error:
        read_run(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_run_as_json() -> None:
    kept = run(run_id="0731-1")
    assert run_from_json(run_to_json(kept)) == kept
    assert json.loads(run_to_json(kept))["schema"] == "headway.bench/1"


def test_requests_as_files(tmp_path: Path) -> None:
    levels = list(zip(("1 at once", "2 at once"), records(), strict=True))
    write_requests(levels, tmp_path / "requests.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert len(lines) == 21
    assert lines[0]["level"] == "1 at once"
    assert msgspec.convert(lines[0]["record"], Record) == records()[0][0]
    write_requests(levels, tmp_path / "requests.csv")
    with (tmp_path / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21
    assert float(rows[0]["ttft_s"]) == 0.1
    assert (rows[20]["outcome"], rows[20]["ttft_s"], rows[20]["error"]) == ("timeout", "", "no")
    write_requests([], tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().startswith("level,index,")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_servers_text_is_no_formula_in_a_spreadsheet(text: str, tmp_path: Path) -> None:
    """What a server answers is in the cells of ``error``, ``code`` and others."""
    record = failure(0.0, Outcome.ERROR)
    record.error = record.code = record.finish_reason = record.service_class = text
    write_requests([("4 at once", [record])], tmp_path / "requests.csv")
    with (tmp_path / "requests.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    shown = "'" + text.replace("\r", " ")
    assert {row[name] for name in ("error", "code", "finish_reason", "service_class")} == {shown}
    assert float(row["intended_s"]) == 0.0


def test_a_file_that_can_not_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="can't be written: No such file"):
        write_run(run(), tmp_path / "missing" / "run.json")
    with pytest.raises(ExportError, match="can't be written: Is a directory"):
        write_run(run(), tmp_path)
    with pytest.raises(ExportError, match="can't be read"):
        read_run(tmp_path / "missing")
    path = tmp_path / "run.json"
    write_run(run(note="old"), path)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ExportError):
        write_run(run(note="new"), tmp_path / "folder.json")
    assert read_run(path).note == "old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder.json", "run.json"]
