import itertools
from pathlib import Path

import pytest

from headway.bench.figures import Level, Run
from headway.bench.record import Record
from headway.bench.store import Store
from headway.plan.errors import PlanError
from headway.plan.load import Demand, rate_of, read_demand, workloads
from headway.plan.recorded import recorded_rows
from headway.policy.objectives import read_classes

CLASSES = read_classes({}, ("conversational:ttft=400,itl=80", "interactive:ttft=500,e2e=2000"))


def read(
    spec: str, rate: float | None = 10.0, promised: tuple[str, ...] = ("conversational",), cv: float | None = None
) -> Demand:
    return read_demand(spec, rate=rate, cv=cv, classes=CLASSES, promised=promised, context=32_768)


def test_a_drawn_workload_has_the_lengths_that_were_written() -> None:
    demand = read("synthetic:in=uniform(100,200),out=constant(64)")
    calls = demand.sample()
    assert {call.size.output_tokens for call in calls} == {64}
    assert min(call.size.prompt_tokens for call in calls) >= 100
    assert max(call.size.prompt_tokens for call in calls) <= 200
    assert calls[-1].at_s == pytest.approx(len(calls) / 10.0, rel=0.1)


def test_bursts_come_at_the_same_rate() -> None:
    calls = read("synthetic", cv=4.0).sample()
    gaps = [later.at_s - call.at_s for call, later in itertools.pairwise(calls)]
    mean = sum(gaps) / len(gaps)
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 / mean > 2.5


def test_shared_prefixes_are_shared_and_come_before_what_is_ones_own() -> None:
    calls = read("shared-prefix:prefixes=2,prefix=1000,in=constant(50)").sample()
    assert {call.size.prompt_tokens for call in calls} == {1050}
    first, other = (
        call.prompt() for call in (calls[0], next(c for c in calls[1:] if c.size.prefix == calls[0].size.prefix))
    )
    assert first[:1000] == other[:1000]
    assert first[1000] != other[1000]
    assert len({call.size.prefix for call in calls}) == 2


def test_classes_keep_their_shares_and_promises() -> None:
    demand = read("classes:conversational=0.75,batch=0.25")
    assert demand.promises["conversational"].ttft_s == 0.4
    assert "batch" not in demand.promises
    calls = demand.sample()
    assert sum(call.service_class == "batch" for call in calls) / len(calls) == pytest.approx(0.25, abs=0.03)


def test_a_packaged_trace_has_its_own_rate_and_promise_unless_others_are_given() -> None:
    trace = read("azure-code", rate=None, promised=())
    assert trace.rate == pytest.approx(2.5, rel=0.2)
    assert trace.promises["conversational"].ttft_s == 1.0
    assert any("as in the trace" in note for note in trace.notes)
    assert read("azure-code").promises["conversational"].ttft_s == 0.4


def test_requests_without_a_class_belong_to_the_only_one_that_is_promised_something() -> None:
    assert set(read("chat", promised=("interactive",)).promises) == {"interactive"}


def test_a_trace_file_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:00:{second:02}.0,{100 + second},50" for second in range(10)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    demand = read(f"azure:{path}", rate=None)
    assert demand.rate == pytest.approx(1.0, rel=0.2)
    assert {call.size.prompt_tokens for call in demand.sample()} == set(range(100, 110))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no requests"),
        ("time,in,out\n1,2,3\n", "no column TIMESTAMP"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,12", "can't be read, or is cut off"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,12,5\n", "two requests at different times"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2023-11-16 18:00:00,12,5\n" * 3, "two requests at different"),
    ],
)
def test_an_empty_or_malformed_trace_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(PlanError, match=said) as error:
        read(f"azure:{path}")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nonsense", "there is no workload 'nonsense'"),
        ("azure:/nowhere.csv", "No such file"),
        ("synthetic:in=5000000", "goes from"),
        ("conversation", "turns=1"),
        ("synthetic:in=30000,out=4000", "scale="),
        ("classes:gold=1", "no service class 'gold'"),
        ("tight:scale=2", "takes no options"),
        ("classes:batch=1", "no request of classes:batch=1 is of that class"),
    ],
)
def test_a_workload_that_cannot_be_meant_is_one_clear_line(spec: str, said: str) -> None:
    with pytest.raises(PlanError, match=said) as error:
        read(spec)
    assert "\n" not in str(error.value)


def test_a_workload_without_times_needs_a_rate_and_a_trace_takes_no_bursts() -> None:
    with pytest.raises(PlanError, match="--rate 20"):
        read("chat", rate=None)
    with pytest.raises(PlanError, match="has its own times"):
        read("azure-conv", cv=2.0)


def test_nothing_promised_is_nothing_to_keep() -> None:
    with pytest.raises(PlanError, match="nothing is promised"):
        read("classes:batch=1", promised=())


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "5000000", "twenty", ""])
def test_a_rate_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="requests a second"):
        rate_of(text)


def test_a_recorded_run_is_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    records = [
        Record(index=i, intended_s=float(i), ended_s=i + 1.0, prompt_tokens=100 + i, max_tokens=20, chunk_s=[i + 0.5])
        for i in range(5)
    ]
    run = Run(id="", started_at="2026-11-24T10:00:00+00:00", levels=[Level(name="1/s", load={"kind": "open"})])
    with Store(path) as store:
        store.save(run, [records])
    found = recorded_rows("run:latest", path)
    assert found.is_open
    assert found.rate == 1.0
    assert [row.size.prompt_tokens for row in found.rows[""]] == [100, 101, 102, 103, 104]
    with pytest.raises(PlanError, match="has 1 levels"):
        recorded_rows("run:latest,level=2", path)
    with pytest.raises(PlanError, match="no run 'x'"):
        recorded_rows("run:x", path)
    with pytest.raises(PlanError, match="no store"):
        recorded_rows("run:latest", tmp_path / "none.sqlite")


def test_recorded_requests_beyond_the_context_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were left out in silence, and the plan was for a lighter load than the one that was recorded."""
    path = tmp_path / "store.sqlite"
    prompts = [100, 200, 30_000, 300, 400]
    records = [
        Record(index=i, intended_s=float(i), ended_s=i + 1.0, prompt_tokens=prompt, max_tokens=20, chunk_s=[i + 0.5])
        for i, prompt in enumerate(prompts)
    ]
    run = Run(id="", started_at="2026-11-24T10:00:00+00:00", levels=[Level(name="1/s", load={"kind": "open"})])
    with Store(path) as store:
        store.save(run, [records])
    monkeypatch.setattr("headway.plan.recorded.default_path", lambda: path)
    demand = read_demand("run:latest", rate=None, cv=None, classes=CLASSES, promised=("conversational",), context=8192)
    assert "1 requests that the model's context can't hold were left out" in demand.notes
    assert demand.too_long(350) == pytest.approx(0.25, abs=0.05)


def test_every_workload_has_a_description() -> None:
    assert {"azure-conv", "chat", "tight", "run:ID"} <= set(workloads())
