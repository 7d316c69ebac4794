"""Models by name: sizes as published, spellings, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.models.shapes import shape_config
from headway.models.source import BUNDLED_DIRECTORY, resolve
from headway.plan.errors import PlanError
from headway.plan.known_models import BYTES_MAX, KnownModel, find_model, known_models, spelling

KNOWN = list(known_models().values())
MIXED = [known for known in KNOWN if known.active is not None]
COUNTS_THE_HEAD_ALONE = ("gpt-oss-20b", "gpt-oss-120b", "deepseek-v2-lite")


def name_of(known: KnownModel) -> str:
    return known.shape.name


@pytest.mark.parametrize("known", KNOWN, ids=name_of)
def test_parameters_are_within_one_percent_of_what_is_published(known: KnownModel) -> None:
    assert known.shape.parameters / 1e9 == pytest.approx(known.published, rel=0.01)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Llama-3.1-8B", 8.03),
        ("Llama-3.1-70B", 70.55),
        ("Llama-3.1-405B", 405.85),
        ("Llama-2-70b", 68.98),
        ("Mixtral-8x7B", 46.7),
        ("Qwen3-30B-A3B", 30.5),
        ("DeepSeek-R1", 671),
        ("gpt-oss-120b", 116.8),
        ("MPT-7B", 6.65),
        ("Falcon-180B", 179.5),
        ("BLOOM-176B", 176.2),
        ("GPT-J-6B", 6.05),
    ],
)
def test_the_file_states_what_makers_state(name: str, billions: float) -> None:
    assert find_model(name).parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize("known", MIXED, ids=name_of)
def test_active_parameters_are_near_what_is_published(known: KnownModel) -> None:
    """To 3 %: most makers count the embedding, and round to two figures."""
    shape = known.shape
    embedding = 0 if shape.name in COUNTS_THE_HEAD_ALONE else shape.vocab * shape.hidden
    assert (shape.active_parameters + embedding) / 1e9 == pytest.approx(known.active, rel=0.03)


def test_no_two_models_share_a_spelling() -> None:
    owners: dict[str, str] = {}
    for name, known in known_models().items():
        for each in (name, *known.aliases):
            assert owners.setdefault(spelling(each), name) == name


def test_every_model_has_a_source() -> None:
    assert all(known.shape.source for known in KNOWN)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("meta-llama/Llama-3.1-70B-Instruct", "llama-3.1-70b"),
        ("LLaMA v3.1 70B", "llama-3.1-70b"),
        ("Llama 3.1 405B", "llama-3.1-405b"),
        ("llama3.1-405b", "llama-3.1-405b"),
        ("Llama-3.1-405B-FP8", "llama-3.1-405b"),
        ("Llama 3.3 70B", "llama-3.3-70b"),
        ("Llama2-70B", "llama-2-70b"),
        ("llama2-70b", "llama-2-70b"),
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("LLaMA 7B", "llama-7b"),
        ("LLaMA 70B", "llama-2-70b"),
        ("RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", "llama-4-scout-17b-16e"),
        ("CodeLlama-34B", "codellama-34b"),
        ("Mistral 7B", "mistral-7b"),
        ("mistralai/Mistral-Nemo-Instruct-2407", "mistral-nemo-12b"),
        ("mistralai/Mixtral-8x7B-v0.1", "mixtral-8x7b"),
        ("mixtral-8x7b", "mixtral-8x7b"),
        ("Qwen/Qwen3-235B-A22B-FP8", "qwen3-235b-a22b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-r1"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("ibm/mpt-7b-instruct2", "mpt-7b"),
        ("Falcon 180B", "falcon-180b"),
        ("BLOOM-176B", "bloom-176b"),
        ("GPT-J 6B", "gpt-j-6b"),
        ("GPT-6.7B", "gpt-6.7b"),
        ("Yi-6B-Chat", "yi-6b"),
        ("01-ai/Yi-34B", "yi-34b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
    ],
)
def test_spellings(written: str, name: str) -> None:
    assert find_model(written).name == name


def test_a_window_tells_versions_apart() -> None:
    assert find_model("mistralai/Mistral-7B-v0.1").windows
    assert not find_model("mistralai/Mistral-7B-Instruct-v0.3").windows


@pytest.mark.parametrize(
    ("written", "meant"), [("llama-3.1-9b", "llama-3.1-8b"), ("qwen3-31b", "qwen3-32b"), ("mixtral", "mixtral-8x7b")]
)
def test_near_misses_are_named(written: str, meant: str) -> None:
    with pytest.raises(PlanError, match=f"is no known model.*did you mean .*{meant}"):
        find_model(written)


@pytest.mark.parametrize("written", ["", "   ", "???", "zzzz", "/nowhere/at/all", "a" * 5000, "a\0b", "~nobody/model"])
def test_nonsense_is_one_line(written: str) -> None:
    with pytest.raises(PlanError, match=r"is no known model.*give its config\.json") as caught:
        find_model(written)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_directory_and_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_bytes((BUNDLED_DIRECTORY / "config.json").read_bytes())
    (tmp_path / "other.json").write_bytes((BUNDLED_DIRECTORY / "config.json").read_bytes())
    assert find_model(str(folder)).name == "mine"
    assert find_model(str(folder / "config.json")).name == "mine"
    assert find_model(str(tmp_path / "other.json")).name == "other"
    assert find_model(str(folder)).source == str(folder / "config.json")


def test_the_bundled_model() -> None:
    bundled = find_model("bundled")
    assert bundled.name == "bundled"
    assert bundled.parameters == pytest.approx(resolve(None).config.parameters, rel=1e-3)


def test_random_shapes() -> None:
    shape = find_model("random:llama-3.1-8b")
    assert shape.name == "random:llama-3.1-8b"
    assert shape.parameters == shape_config("llama-3.1-8b").parameters
    with pytest.raises(PlanError, match=r"random:huge: unknown shape .*smollm2-135m"):
        find_model("random:huge")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(PlanError, match=r"no JSON; the model's config\.json was expected"):
        find_model(str(path))


def test_a_file_that_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps([1, 2]))
    with pytest.raises(PlanError, match="not a JSON object"):
        find_model(str(tmp_path))


def test_a_file_that_is_far_too_long(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(BYTES_MAX + 1)
    with pytest.raises(PlanError, match=r"which no config\.json is"):
        find_model(str(path))
