"""Drawn workloads and replayed traces: exact, fresh for each seed, and shared where that was asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean

import pytest
from tokenizers import Tokenizer

from headway.bench.call import Call
from headway.bench.tokens import WordTokens
from headway.bench.tokens_local import bundled
from headway.bench.workload import EXAMPLES, Workload, WorkloadError, listing, options, parse
from headway.models.source import BUNDLED_DIRECTORY
from headway.traces.packaged import packaged

tokens = cache(bundled)
DRAWN = ("synthetic", "chat", "short", "long", "code", "shared-prefix", "conversation")
TRACES = ("azure-conv", "azure-code", "mooncake")


def workload(spec: str, **known: int) -> Workload:
    return parse(spec, tokens(), api="chat", **known)


def take(spec: str, n: int, *, seed: int = 1) -> list[Call]:
    return list(islice(workload(spec).calls(seed), n))


def text_of(call: Call) -> str:
    text = call.messages[0]["content"] if call.messages else call.prompt
    assert isinstance(text, str)
    return text


def longest_shared(texts: Iterable[str]) -> int:
    """Tokens that the two of these texts have in common from the first on that have most."""
    tokenizer = Tokenizer.from_file(str(BUNDLED_DIRECTORY / "tokenizer.json"))
    ordered = sorted(tokenizer.encode(text).ids for text in texts)
    return max(shared(one, other) for one, other in pairwise(ordered))


def shared(one: Sequence[object], other: Sequence[object]) -> int:
    differ = (at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(differ, min(len(one), len(other)))


@pytest.mark.parametrize("spec", [*DRAWN, "azure-conv", "azure-code", "mooncake:scale=0.1"])
def test_prompts_have_just_the_tokens_that_they_say(spec: str) -> None:
    for call in take(spec, 40):
        assert tokens().count(text_of(call)) == call.prompt_tokens > 0
        assert [tokens().count(turn.text) for turn in call.turns] == [turn.tokens for turn in call.turns]
        assert call.max_tokens > 0
        assert call.exact_output


@pytest.mark.parametrize("spec", [*DRAWN, *TRACES, "classes:conversational=0.7,batch=0.3"])
def test_the_same_seed_gives_the_same_calls_also_in_shares(spec: str) -> None:
    calls = take(spec, 12)
    assert take(spec, 12) == calls
    shares = [list(islice(workload(spec).calls(1, first=first, step=3), 4)) for first in range(3)]
    assert [call for together in zip(*shares, strict=True) for call in together] == calls


@pytest.mark.parametrize("spec", ["synthetic:in=32", "short", "conversation", "azure-conv:scale=0.1"])
def test_no_prompt_begins_as_another_of_any_level(spec: str) -> None:
    """The trap: the same prompts at each load level, so that all but the first find their prefix cached."""
    texts = [text_of(call) for seed in range(4) for call in take(spec, 500, seed=seed)]
    assert longest_shared(texts) <= 4


def test_levels_of_a_trace_differ_in_their_text_alone() -> None:
    one, other = take("azure-conv", 50, seed=1), take("azure-conv", 50, seed=2)
    assert [(call.at_s, call.prompt_tokens, call.max_tokens) for call in one] == [
        (call.at_s, call.prompt_tokens, call.max_tokens) for call in other
    ]
    assert not {text_of(call) for call in one} & {text_of(call) for call in other}


def test_shared_prefixes_are_shared_within_a_level_only_and_as_unevenly_as_said() -> None:
    spec = "shared-prefix:prefixes=4,prefix=100,zipf=1,in=20,out=8"
    levels = [Counter(" ".join(text_of(call).split()[:100]) for call in take(spec, 1000, seed=seed)) for seed in (1, 2)]
    assert [len(level) for level in levels] == [4, 4]
    assert longest_shared([*levels[0], *levels[1]]) <= 2
    shares = [n / 1000 for _, n in levels[0].most_common()]
    assert shares == pytest.approx([0.48, 0.24, 0.16, 0.12], abs=0.05)
    assert {call.prompt_tokens for call in take(spec, 100)} == {120}


def test_conversations_go_on() -> None:
    calls = take("chat:turns=uniform(1,4),next=uniform(5,9),think=exponential(2,1,4),in=20,out=7", 300)
    assert {len(call.turns) for call in calls} == {0, 1, 2, 3}
    turns = [turn for call in calls for turn in call.turns]
    assert {turn.tokens for turn in turns} <= set(range(5, 10))
    assert {turn.max_tokens for turn in turns} == {7}
    assert all(1 <= turn.think_s <= 4 for turn in turns)
    assert all(call.messages and not call.prompt for call in calls)


def test_classes_come_in_their_shares_with_their_own_lengths_and_tiers() -> None:
    spec = "classes:conversational=7,batch=2,vip=1,batch.in=300,batch.out=9,vip.like=short,vip.tier=none,scale=0.5"
    calls = take(spec, 2000)
    shares = Counter(call.service_class for call in calls)
    assert shares["conversational"] / 2000 == pytest.approx(0.7, abs=0.03)
    assert shares["batch"] / 2000 == pytest.approx(0.2, abs=0.03)
    tiers = {(call.service_class, call.tier) for call in calls}
    assert tiers == {("conversational", "priority"), ("batch", "flex"), ("vip", None)}
    batch = {(call.prompt_tokens, call.max_tokens) for call in calls if call.service_class == "batch"}
    assert batch == {(150, 4)}
    assert {call.max_tokens for call in calls if call.service_class == "vip"} == {32}


@pytest.mark.parametrize(
    ("spec", "tier"), [("class=batch", "flex"), ("class=mine", "mine"), ("tier=x", "x"), ("in=9", None)]
)
def test_any_workload_can_be_of_a_class(spec: str, tier: str | None) -> None:
    (call,) = take(f"short:{spec}", 1)
    assert call.tier == tier
    assert call.service_class == (spec.partition("class=")[2] or "")


@pytest.mark.parametrize("name", TRACES)
def test_traces_keep_their_times_and_go_on_where_they_end(name: str) -> None:
    replayed = workload(f"{name}:rows=50,scale=0.01")
    calls = list(islice(replayed.calls(1), 150))
    times = [call.at_s for call in calls if call.at_s is not None]
    assert times == sorted(times)
    assert times[0] == 0.0
    assert replayed.rate is not None
    assert times[100] == pytest.approx(100 / replayed.rate)
    assert longest_shared(f"{call.prompt} {number}" for number, call in enumerate(calls[::50])) <= 4


def test_azure_is_replayed_at_its_own_times() -> None:
    rows = packaged("azure_conv").rows[:100]
    calls = take("azure-conv", 100)
    assert [call.at_s for call in calls] == pytest.approx([row.arrived_s for row in rows])
    assert [(call.prompt_tokens, call.max_tokens) for call in calls] == [
        (r.prompt_tokens, r.output_tokens) for r in rows
    ]


def test_mooncake_shares_the_blocks_that_its_labels_say(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    labels = [[7, 1, 2], [7, 1, 3], [7, 8], [9], []]
    rows = [
        {"timestamp": 3000 * at, "input_length": 1500, "output_length": 5, "hash_ids": each}
        for at, each in enumerate(labels)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(call.prompt).split() for call in take(f"mooncake:{path}", 10)]
    assert {len(each) for each in words} == {1500}
    assert shared(words[0], words[1]) == 1024
    assert shared(words[0], words[2]) == 512
    assert max(shared(words[0], words[3]), shared(words[3], words[4])) <= 2
    for one in words[:5]:  # the next pass knows nothing of this one, nor another level
        assert max(shared(one, other) for other in words[5:]) <= 2
        assert max(shared(one, str(call.prompt).split()) for call in take(f"mooncake:{path}", 5, seed=2)) <= 2
    halved = [str(call.prompt).split() for call in take(f"mooncake:{path},scale=0.5", 2)]
    assert (len(halved[0]), shared(*halved)) == (750, 512)


def test_mooncake_does_not_come_in_its_steps_of_3_s() -> None:
    times = [call.at_s for call in take("mooncake:rows=200,scale=0.01", 200) if call.at_s is not None]
    assert len(set(times)) == 200
    assert max(later - earlier for earlier, later in pairwise(times)) < 3.0


def test_what_does_not_fit_the_context_is_refused_or_left_out_and_said() -> None:
    with pytest.raises(WorkloadError, match=r"chat can need 5,296 tokens .* takes 1,024: scale=0.181 fits"):
        workload("chat", context=1024)
    workload("chat:scale=0.181", context=1024)
    with pytest.raises(WorkloadError, match=r"classes: batch can need .* scale=0.055 fits"):
        workload("classes:conversational=0.9,batch=0.1,conversational.like=short,scale=0.5", context=544)
    with pytest.raises(
        WorkloadError, match=r"mooncake: only 66 of its 3,000 requests fit .*: scale=(\S+) lets 95% fit"
    ):
        workload("mooncake", context=1024)
    described = workload("azure-conv", context=4096).describe()
    assert described["requests_left_out"] == 110
    assert described["requests"] == 3890


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "there is no workload ''; there are synthetic, chat"),
        ("chatt", "there is no workload 'chatt'"),
        ("chat:", None),
        ("chat:inn=3", "chat has no option inn; there are .*in, out"),
        ("chat:in=3,in=4", "in is given twice"),
        ("chat:in=", "in has no value"),
        ("chat:3", "'3' is no option; write key=value"),
        ("chat:in=0", "in: '0' goes from 0 to 0; it may go from 1 to 1,000,000"),
        ("chat:in=2e6", "it may go from 1 to 1,000,000"),
        ("chat:turns=257", "it may go from 1 to 256"),
        ("chat:turns=2,think=4000", "it may go from 0 to 3,600"),
        ("chat:think=1", "think means nothing without turns"),
        ("chat:prefix=100", "prefix means nothing without prefixes"),
        ("chat:prefixes=1.5", "a whole number from 0 to 100,000"),
        ("chat:prefixes=1e9", "a number from 0 to 100,000"),
        ("chat:zipf=x", "zipf must be a number from 0 to 10, not 'x'"),
        ("chat:scale=0", "scale must be a number from 0.001 to 1,000"),
        ("chat:exact=maybe", "exact must be yes or no, not 'maybe'"),
        ("chat:class=a b", "a class is named by a short word"),
        (
            "chat:scale=1000",
            "can need 5,296,000 tokens and 64 for the template; 1,000,000 can be asked for: scale=188.8",
        ),
        ("mooncake:scale=1000", r"only \d+ of its 3,000 requests fit into 1,000,000 tokens: scale="),
        ("classes", "needs 1 to 16 classes and their shares"),
        ("classes:batch=none", "batch must be a number"),
        ("classes:batch=1,batch.like=novel", "like must be one of synthetic, chat"),
        ("classes:batch=1,bach.in=5", r"classes has no option bach.in; there are .*batch\.in"),
        ("azure", "azure needs a file: azure:FILE"),
        ("sharegpt", "sharegpt needs a file"),
        ("azure-conv:trace.csv", "'trace.csv' is no option"),
        ("chat:" + "x" * 5000, "4096 characters at most"),
    ],
)
def test_what_can_not_be_meant_is_one_line_with_what_would_work(spec: str, said: str | None) -> None:
    if said is None:
        workload(spec)
        return
    with pytest.raises(WorkloadError, match=said) as caught:
        workload(spec)
    assert "\n" not in str(caught.value)


def test_conversations_need_chat() -> None:
    with pytest.raises(WorkloadError, match="need the chat API; turns=1 doesn't"):
        parse("conversation", tokens(), api="completions")
    assert next(parse("conversation:turns=1", tokens(), api="completions").calls(1)).prompt


def test_what_is_listed_is_there_and_described() -> None:
    for name in (*DRAWN, *TRACES):
        assert name in listing()
        described = workload(name).describe()
        assert described["name"] == name
        assert described["tokens"] == "the bundled tokenizer"
        if name in DRAWN:
            calls = take(name, 200)
            mean = described["output_tokens_mean"]
            assert isinstance(mean, float)
            assert fmean(call.max_tokens for call in calls) == pytest.approx(mean, rel=0.2)
    for example in EXAMPLES:
        if "FILE" not in example and ".json" not in example:
            workload(example)
    assert all(text for keys in options().values() for text in keys.values())


def test_texts_are_made_without_asking_the_tokenizer() -> None:
    """It may be the server's, which is being measured."""
    asked: list[str] = []
    made = tokens()

    def encode(text: str) -> list[int]:
        asked.append(text)
        return list(made.encode(text))

    counted = WordTokens(made.source, encode, made.words, is_exact=True)
    list(islice(parse("short", counted, api="chat").calls(1), 100))
    assert asked == []


def test_the_documentation_names_everything() -> None:
    text = (Path(__file__).parents[2] / "docs" / "workloads.md").read_text()
    missing = [name for name in listing() if f"`{name}`" not in text]
    missing += [key for keys in options().values() for key in keys if f"`{key}" not in text]
    assert missing == []
