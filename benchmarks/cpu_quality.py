"""What fewer bits cost: the bundled model's perplexity on held-out chats, in fp32, bf16 and int8.

The chats are composed as those that it was trained on were, with another seed. Each answer's tokens are given to the
engine one by one, and it says how likely it held the next one. Beside that, by how much these log-probabilities differ
from those in fp32, and how often the likeliest token is another one.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from statistics import mean, median

from tokenizers import Tokenizer

from headway.engine.options import Dtype, EngineOptions
from headway.engine.runner import ModelRunner
from headway.models.source import resolve
from headway.policy.plan import Chunk, Draw, StepPlan
from headway.policy.sampling import SamplingParams
from tools.demo_model.text import batches
from tools.demo_world import Composer

BLOCK = 16
CERTAIN = 1e4
"""Added to a token's logit, it is drawn; its log-probability is told from before."""
DTYPES: tuple[Dtype, ...] = ("fp32", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class Text:
    """``learned[i]``: whether token i is part of an answer."""

    tokens: list[int]
    learned: list[bool]


@dataclass(frozen=True, slots=True)
class Said:
    """Of each answer token, its log-probability, and the likeliest token in its place."""

    logprobs: list[float]
    likeliest: list[int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=20_000, help="of held-out chats, answers and all")
    parser.add_argument("--seed", type=int, default=20_261_130, help="of the chats; training used others")


def run(arguments: argparse.Namespace) -> dict[str, float | int | str | None]:
    texts = _texts(arguments.tokens, arguments.seed)
    said = {}
    for dtype in DTYPES:
        print(f"  {dtype}", file=sys.stderr)
        said[dtype] = _say(texts, dtype)
    figures: dict[str, float | int | str | None] = {"texts": len(texts), "answer_tokens": len(said["fp32"].logprobs)}
    for dtype, each in said.items():
        figures[f"{dtype}_perplexity"] = round(math.exp(-mean(each.logprobs)), 5)
    exact = said["fp32"]
    for dtype in DTYPES[1:]:
        errors = [abs(a - b) for a, b in zip(said[dtype].logprobs, exact.logprobs, strict=True)]
        others = sum(a != b for a, b in zip(said[dtype].likeliest, exact.likeliest, strict=True))
        figures |= {
            f"{dtype}_logprob_error_median": round(median(errors), 5),
            f"{dtype}_logprob_error_mean": round(mean(errors), 5),
            f"{dtype}_logprob_error_worst": round(max(errors), 4),
            f"{dtype}_likeliest_differs": round(others / len(errors), 5),
        }
    ratio = math.exp(mean(said["bf16"].logprobs) - mean(said["int8"].logprobs))
    return figures | {"int8_over_bf16_perplexity": round(ratio, 5)}


def _texts(tokens: int, seed: int) -> list[Text]:
    source = resolve(None)
    assert source.path is not None
    tokenizer = Tokenizer.from_file(str(source.path / "tokenizer.json"))
    batch = next(batches(Composer(seed), tokenizer, tokens=tokens, context=source.config.context_tokens))
    texts, begin = [], 0
    for length in batch.lengths:
        part = slice(begin, begin + length)
        texts.append(Text(batch.tokens[part].tolist(), batch.learned[part].tolist()))
        begin += length
    return texts


def _say(texts: list[Text], dtype: Dtype) -> Said:
    blocks = max(-(-len(text.tokens) // BLOCK) for text in texts)
    runner = ModelRunner(resolve(None), EngineOptions(dtype=dtype, kv_tokens=blocks * BLOCK * len(texts)))
    logprobs: dict[tuple[int, int], float] = {}
    likeliest: dict[tuple[int, int], int] = {}
    for place in range(max(len(text.tokens) for text in texts) - 1):
        chunks = []
        for index, text in enumerate(texts):
            if place + 1 < len(text.tokens):
                bias = ((text.tokens[place + 1], CERTAIN),)
                rules = SamplingParams(temperature=0.0, logprobs=1, logit_bias=bias)
                table = tuple(range(index * blocks, (index + 1) * blocks))
                chunks.append(
                    Chunk(str(index), place, (text.tokens[place],), table, Draw(rules, place, len(text.tokens)))
                )
        result = runner.run(StepPlan(place, tuple(chunks)))
        assert not result.failed, result.failed
        for drawn in result.drawn:
            index = int(drawn.request_id)
            assert drawn.token == texts[index].tokens[place + 1]
            assert drawn.logprob is not None
            if texts[index].learned[place + 1]:
                logprobs[index, place] = drawn.logprob
                likeliest[index, place] = drawn.top[0][0]
    return Said(list(logprobs.values()), list(likeliest.values()))
