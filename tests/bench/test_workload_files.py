"""Files as workloads: good, empty, cut off and malformed ones of each format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from headway.bench import files, sharegpt
from headway.bench.call import Call
from headway.bench.target import Api
from headway.bench.tokens_local import bundled
from headway.bench.workload import Workload, WorkloadError, parse

tokens = cache(bundled)

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,474,24
2023-11-16 18:17:05.2299600,396,109
2023-11-16 18:17:04.0319600,80,0
2023-11-16 18:17:08.9799600,879,55
"""
MOONCAKE = """{"timestamp": 1000, "input_length": 600, "output_length": 20, "hash_ids": [1, 2]}

{"timestamp": 500, "input_length": 30, "output_length": 4}
"""
CHAT = [{"from": "human", "value": "What is a goose?"}, {"from": "gpt", "value": "It is a big bird that honks."}]
MORE = [{"from": "user", "value": "And a duck?"}, {"from": "assistant", "value": "A small one."}]
SHAREGPT = [
    {"id": "1", "conversations": [{"from": "system", "value": "Be brief."}, *CHAT, *MORE]},
    {"id": "2", "conversations": [{"from": "gpt", "value": "Hello."}, *MORE]},
    {"id": "3", "conversations": [{"from": "human", "value": "Is there anybody?"}]},
    {"id": "4", "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
]
JSONL = [
    {"prompt": "Tell me a story", "output_tokens": 9, "at_s": 12.5, "service_class": "batch", "colour": "red"},
    {"messages": [{"role": "user", "content": "Tell me"}], "max_tokens": 7, "at_s": 10, "service_tier": "auto"},
    {"prompt": "Tell me", "at_s": 11, "prompt_tokens": 77, "extra": {"temperature": 0}},
]


def _written(folder: Path, text: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _lines(rows: Sequence[Mapping[str, object]]) -> str:
    return "\n".join(map(json.dumps, rows))


def _parse(spec: str, *, api: Api = "chat", context: int | None = None) -> Workload:
    return parse(spec, tokens(), api=api, context=context)


def _calls(spec: str, n: int, *, seed: int = 1, api: Api = "chat") -> list[Call]:
    return list(islice(_parse(spec, api=api).calls(seed), n))


def test_azure_is_read_in_order_of_time_without_what_has_no_answer(tmp_path: Path) -> None:
    path = _written(tmp_path, AZURE)
    calls = _calls(f"azure:{path},scale=0.5,class=interactive", 3)
    assert [(call.prompt_tokens, call.max_tokens) for call in calls] == [(237, 12), (198, 54), (440, 28)]
    assert [call.at_s for call in calls] == pytest.approx([0.0, 1.25, 5.0])
    assert {(call.service_class, call.tier) for call in calls} == {("interactive", "default")}
    assert _parse(f"azure:{path}").describe()["requests_left_out"] == 1


def test_azure_of_2024_has_time_zones(tmp_path: Path) -> None:
    rows = "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00.5+00:00,10,5\n"
    path = _written(tmp_path, b"\xef\xbb\xbf" + AZURE.splitlines()[0].encode() + b"\r\n" + rows.encode())
    assert [call.at_s for call in _calls(f"azure:{path}", 2)] == pytest.approx([0.0, 0.49007])


def test_mooncake_is_read(tmp_path: Path) -> None:
    path = _written(tmp_path, MOONCAKE)
    calls = _calls(f"mooncake:{path}", 2)
    assert [(call.at_s, call.prompt_tokens, call.max_tokens) for call in calls] == [(0.0, 30, 4), (0.5, 600, 20)]
    assert _calls(f"mooncake:{path},rows=1", 1)[0].prompt_tokens == 600


@pytest.mark.parametrize("as_lines", [False, True], ids=["array", "lines"])
def test_sharegpt_asks_the_first_question_of_each_conversation(as_lines: bool, tmp_path: Path) -> None:
    path = _written(tmp_path, _lines(SHAREGPT) if as_lines else json.dumps(SHAREGPT))
    spec = f"sharegpt:{path},fresh=0"
    assert _parse(spec).describe()["requests_left_out"] == 1
    calls = {call.prompt or str(call.messages[-1]["content"]): call for call in _calls(spec, 3)}
    assert set(calls) == {"What is a goose?", "And a duck?", "Why?"}
    goose = calls["What is a goose?"]
    assert goose.messages[0] == {"role": "system", "content": "Be brief."}
    assert goose.prompt_tokens == tokens().count("Be brief.") + tokens().count("What is a goose?")
    assert goose.max_tokens == tokens().count("It is a big bird that honks.")
    assert goose.turns == ()
    plain = _calls(f"sharegpt:{path}", 3, api="completions")
    assert all(call.prompt and not call.messages for call in plain)


def test_sharegpt_goes_on_for_as_many_turns_as_there_are(tmp_path: Path) -> None:
    path = _written(tmp_path, json.dumps(SHAREGPT))
    calls = _calls(f"sharegpt:{path},turns=3,class=batch,exact=no", 3)
    assert [turn.text for call in calls for turn in call.turns] == ["And a duck?"]
    assert {(call.tier, call.exact_output) for call in calls} == {("flex", False)}
    with pytest.raises(WorkloadError, match="need the chat API"):
        _parse(f"sharegpt:{path},turns=3", api="completions")


def test_texts_of_a_file_are_fresh_for_each_level_and_pass_and_share_what_they_share(tmp_path: Path) -> None:
    path = _written(tmp_path, _lines([{"prompt": f"You are a bird. {n}", "max_tokens": 5} for n in range(3)]))
    texts = [str(call.prompt) for seed in (1, 2) for call in _calls(f"jsonl:{path}", 6, seed=seed)]
    openings = [text.removesuffix(f" You are a bird. {number % 3}") for number, text in enumerate(texts)]
    assert len(set(openings)) == 4
    assert all(len(set(openings[at : at + 3])) == 1 for at in range(0, 12, 3))
    assert len({opening.split()[0] for opening in openings}) > 1
    (call,) = _calls(f"jsonl:{path}", 1)
    assert tokens().count(str(call.prompt)) == call.prompt_tokens == tokens().count("You are a bird. 0") + 4
    assert _calls(f"jsonl:{path},fresh=0", 1)[0].prompt == "You are a bird. 0"


def test_jsonl_takes_what_each_line_says(tmp_path: Path) -> None:
    path = _written(tmp_path, _lines(JSONL) + "\n\n")
    workload = _parse(f"jsonl:{path},out=uniform(3,4),fresh=0,class=interactive")
    first, second, third, again = islice(workload.calls(1), 4)
    assert [call.at_s for call in (first, second, third)] == [0.0, 1.0, 2.5]
    assert again.at_s == pytest.approx(3.75)
    assert (first.max_tokens, first.exact_output, first.service_class, first.tier) == (7, False, "interactive", "auto")
    assert (second.max_tokens in (3, 4), second.prompt_tokens, second.extra) == (True, 77, {"temperature": 0})
    assert (third.max_tokens, third.exact_output, third.service_class, third.tier) == (9, True, "batch", "flex")
    untiered = _calls(f"jsonl:{path},out=5,tier=none", 3)
    assert [(call.service_class, call.tier) for call in untiered] == [("", "auto"), ("", None), ("batch", None)]
    assert workload.describe()["fields_ignored"] == ["colour"]
    assert workload.describe()["classes"] == ["batch", "interactive"]


@pytest.mark.parametrize(
    ("times", "expected"),
    [((1500, 500), [0.0, 1.0]), (("2024-05-10T00:00:02Z", "2024-05-10T00:00:00Z"), [0.0, 2.0]), ((5, 5), [None, None])],
)
def test_timestamps_are_milliseconds_or_dates(times: tuple[object, ...], expected: list[float], tmp_path: Path) -> None:
    path = _written(tmp_path, _lines([{"prompt": "a", "max_tokens": 1, "timestamp": each} for each in times]))
    assert [call.at_s for call in _calls(f"jsonl:{path}", 2)] == expected


def test_messages_of_parts_and_prompts_of_ids_are_taken(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    path = _written(tmp_path, _lines([{"messages": [{"role": "user", "content": parts}], "max_tokens": 5}]))
    (call,) = _calls(f"jsonl:{path}", 1)
    assert call.prompt_tokens == tokens().count("What is it?") + 4
    assert isinstance(call.messages[0]["content"], list)
    assert call.messages[0]["content"][1:] == parts
    path = _written(tmp_path, _lines([{"prompt": [5, 6, 7], "max_tokens": 5}]))
    (call,) = _calls(f"jsonl:{path}", 1, api="completions")
    assert (call.prompt, call.prompt_tokens) == ((5, 6, 7), 3)


def test_what_does_not_fit_is_left_out(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "max_tokens": most} for most in (10, 2000)]
    path = _written(tmp_path, _lines(rows))
    described = _parse(f"jsonl:{path}", context=1024).describe()
    assert (described["requests"], described["requests_left_out"]) == (1, 1)
    with pytest.raises(WorkloadError, match="none of its 2 requests can be sent within the server's context of 64"):
        _parse(f"jsonl:{path}", context=64)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("azure", "", "is empty; a line has TIMESTAMP"),
        ("azure", "TIMESTAMP,ContextTokens\n", "line 1: no column GeneratedTokens"),
        ("azure", AZURE.splitlines()[0], "has no requests"),
        ("azure", AZURE[:-20], "line 5: .* can't be read, or is cut off"),
        ("azure", AZURE.replace("474", "many"), "line 2: .* can't be read"),
        ("azure", AZURE.replace("474", "9000000"), "line 2: a length must be 0 to 1,000,000 tokens, not 9,000,000"),
        ("azure", AZURE.replace("474", "-1"), "line 2: a length must be"),
        ("mooncake", "", "has no requests"),
        ("mooncake", MOONCAKE[:-9], "line 3: not JSON, or cut off"),
        ("mooncake", '{"timestamp": 1, "input_length": "5"}', "line 1: Expected `int`, got `str`"),
        ("mooncake", '{"timestamp": 1, "input_length": 0, "output_length": 5}', "only 0 of its 1 requests have"),
        ("sharegpt", "", "has no requests; it should hold"),
        ("sharegpt", "[]", "has no requests"),
        ("sharegpt", json.dumps(SHAREGPT)[:-9], "not JSON, or cut off"),
        ("sharegpt", "[[]]", "Expected `object`, got `array`"),
        ("sharegpt", json.dumps(SHAREGPT[2:3]), "none of its 1 requests can be sent"),
        ("sharegpt", "# a heading", "line 1: not JSON"),
        ("jsonl", "", "has no requests; a line is"),
        ("jsonl", _lines(JSONL)[:-9], "line 3: not JSON, or cut off"),
        ("jsonl", b"\xff\xfe{", "line 1: not JSON"),
        ("jsonl", "[1]", "line 1: Expected `object`, got `array`"),
        ("jsonl", '{"max_tokens": 5}', "line 1: it must have a prompt or messages"),
        (
            "jsonl",
            '{"prompt": "a", "messages": [{"role": "user"}], "max_tokens": 5}',
            "it must have a prompt or messages",
        ),
        ("jsonl", '{"prompt": "a"}', "no max_tokens and no output_tokens; add one, or say out=128"),
        ("jsonl", '{"prompt": "a", "max_tokens": 0}', "a length must be 1 to 1,000,000 tokens, not 0"),
        ("jsonl", '{"prompt": 5, "max_tokens": 1}', "line 1: Expected"),
        ("jsonl", '{"prompt": [1, 2], "max_tokens": 1}', "token ids needs the completions API"),
        ("jsonl", '{"messages": [{"content": "a"}], "max_tokens": 1}', "every message needs a role"),
        (
            "jsonl",
            '{"prompt": "a", "max_tokens": 1, "timestamp": "noon"}',
            "timestamp must be milliseconds or ISO 8601",
        ),
        (
            "jsonl",
            '{"prompt": "a", "max_tokens": 1, "at_s": 1}\n{"prompt": "a", "max_tokens": 1}',
            "1 of 2 lines have a time",
        ),
    ],
)
def test_a_bad_file_is_one_line(kind: str, text: str | bytes, said: str, tmp_path: Path) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(WorkloadError, match=said) as caught:
        _parse(f"{kind}:{path}")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["azure", "mooncake", "sharegpt", "jsonl"])
def test_a_file_that_is_not_there_or_too_long_is_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkloadError, match="nowhere: No such file or directory"):
        _parse(f"{kind}:{tmp_path}/nowhere")
    with pytest.raises(WorkloadError, match="Is a directory"):
        _parse(f"{kind}:{tmp_path}")
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 10)
    with pytest.raises(WorkloadError, match="2,000 bytes; 10 can be read, cut a part of it"):
        _parse(f"{kind}:{_written(tmp_path, 2000 * ' ')}")


def test_a_line_that_does_not_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LINE_BYTES_MAX", 100)
    with pytest.raises(WorkloadError, match="line 1: longer than 100 bytes"):
        _parse(f"jsonl:{_written(tmp_path, 2000 * 'a')}")


def test_a_conversation_that_no_message_has_room_for_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole file may be one: it was an assertion of the load generator's, in the middle of a run."""
    said = [{"from": "human", "value": "a " * 5000}, {"from": "gpt", "value": "b"}]
    path = _written(tmp_path, json.dumps([{"conversations": said}]))
    _parse(f"sharegpt:{path}")
    monkeypatch.setattr(sharegpt, "LINE_BYTES_MAX", 5000)
    with pytest.raises(WorkloadError, match=r"a conversation of 10,\d{3} bytes; 5,000 can be sent"):
        _parse(f"sharegpt:{path}")


def test_a_workload_says_whether_all_its_answers_have_a_length(tmp_path: Path) -> None:
    """Else answers that may end earlier would be doubted for it."""
    path = tmp_path / "calls.jsonl"
    for field, is_exact in (("output_tokens", True), ("max_tokens", False)):
        path.write_text(json.dumps({"prompt": "hi", field: 8}))
        assert parse(f"jsonl:{path}", bundled(), api="chat").describe()["exact_output"] is is_exact
    mix = parse("classes:conversational=0.7,batch=0.3,batch.exact=no", bundled(), api="chat")
    assert mix.describe()["exact_output"] is False


def test_messages_need_chat(tmp_path: Path) -> None:
    path = _written(tmp_path, '{"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}')
    with pytest.raises(WorkloadError, match="messages need the chat API"):
        _parse(f"jsonl:{path}", api="completions")
