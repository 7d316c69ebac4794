"""Trains the demo model that is bundled with Headway, on text that ``tools/demo_world`` composes.

Run from the root of the repository: ``python -m tools.train_demo_model --output src/headway/models/bundled``.
It needs torch and no GPU. A model that speaks takes about ten minutes, one that answers what was asked half an hour.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from tools.demo_model.export import Record, export, resume
from tools.demo_model.llama import Llama, Shape
from tools.demo_model.text import CHAT_END, Batch, batches, train_tokenizer
from tools.demo_world import Composer

TOKENIZER_TEXTS = 30_000
HELD_OUT_BATCHES = 16
WARM_UP_STEPS = 100
LEARNING_RATE_FLOOR = 0.01
"""The learning rate at the end, as a fraction of the highest."""
CLIP_NORM = 1.0
WEIGHT_DECAY = 0.1
PROMPTS = (
    "Hello!",
    "Who are you?",
    "what is the capital of france",
    "What is 7 + 5?",
    "What is latency?",
    "Tell me a story about a fox named Pip.",
    "Write a haiku about the sea",
    "Who won the world cup?",
)
"""Questions whose answers are shown with each export."""


@dataclass(frozen=True)
class Options:
    """What to train, and for how long."""

    output: Path
    minutes: float
    seed: int
    learning_rate: float
    batch_tokens: int
    vocabulary: int
    threads: int
    save_minutes: float
    start_from: Path | None


def main() -> None:
    """Train, with progress on standard output, and export from time to time and at the end."""
    options = _parse()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    if options.start_from is None:
        print(f"training a tokenizer of {options.vocabulary} tokens", flush=True)
        tokenizer = train_tokenizer(Composer(options.seed), texts=TOKENIZER_TEXTS, vocabulary=options.vocabulary)
    else:
        tokenizer = Tokenizer.from_file(str(options.start_from / "tokenizer.json"))
    shape = Shape(vocabulary=tokenizer.get_vocab_size())
    model = Llama(shape)
    history = [] if options.start_from is None else resume(options.start_from, model)
    print(f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} million parameters", flush=True)
    Training(options, shape, model, tokenizer, history).run()


class Training:
    """The loop: its length is a time, and the learning rate falls with the time that has passed."""

    def __init__(
        self, options: Options, shape: Shape, model: Llama, tokenizer: Tokenizer, history: list[Record]
    ) -> None:
        self._history = history
        self._options, self._shape, self._model, self._tokenizer = options, shape, model, tokenizer
        self._optimizer = _optimizer(model, options.learning_rate)
        self._learned_from = self._stream(options.seed + 1)
        self._held_out = list(islice(self._stream(options.seed + 2), HELD_OUT_BATCHES))
        self._tokens = 0
        self._started_s = time.monotonic()

    def run(self) -> None:
        """Train until the time is over."""
        limit_s, save_s = self._options.minutes * 60, self._options.save_minutes * 60
        next_save_s, step, average = save_s, 0, math.nan
        while (elapsed_s := time.monotonic() - self._started_s) < limit_s:
            if elapsed_s >= next_save_s:
                self._save(step)
                next_save_s += save_s
            loss = self._step(step, elapsed_s / limit_s)
            average = loss if math.isnan(average) else 0.98 * average + 0.02 * loss
            step += 1
            if step % 50 == 0:
                speed = self._tokens / (time.monotonic() - self._started_s)
                print(f"{elapsed_s / 60:5.1f} of {limit_s / 60:.0f} min  step {step:6d}  loss {average:.4f}  "
                      f"{self._tokens / 1e6:6.2f} M tokens  {speed:.0f} tokens/s", flush=True)  # fmt: skip
        self._save(step)

    def _stream(self, seed: int) -> Iterator[Batch]:
        return batches(Composer(seed), self._tokenizer, tokens=self._options.batch_tokens, context=self._shape.context)

    def _step(self, step: int, progress: float) -> float:
        batch = next(self._learned_from)
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.learning_rate * _schedule(step, progress)
        loss = self._model.loss(batch.tokens, batch.lengths, batch.learned)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._tokens += len(batch.tokens)
        return loss.item()

    def _save(self, step: int) -> None:
        """Measure, show some answers, and write the directory."""
        with torch.inference_mode():
            losses = [self._model.loss(batch.tokens, batch.lengths, batch.learned).item() for batch in self._held_out]
            answers = [(prompt, answer(self._model, self._tokenizer, prompt)) for prompt in PROMPTS]
        record = Record(
            command=f"python -m tools.train_demo_model {shlex.join(sys.argv[1:])}",
            steps=step,
            tokens=self._tokens,
            seconds=time.monotonic() - self._started_s,
            loss=sum(losses) / len(losses),
        )
        for prompt, text in answers:
            print(f"  > {prompt}\n    {text}", flush=True)
        print(f"held-out loss {record.loss:.4f} after {step} steps; writing {self._options.output}", flush=True)
        export(self._options.output, self._model, self._tokenizer, self._shape, [*self._history, record])


def answer(model: Llama, tokenizer: Tokenizer, prompt: str, *, max_tokens: int = 80) -> str:
    """The most likely answer to one question, cut off after ``max_tokens``."""
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.encode(text).ids
    start = len(ids)
    while len(ids) < start + max_tokens:
        hidden = model.model(torch.tensor(ids), [len(ids)])[-1]
        token = int(functional.linear(hidden, model.model.embed_tokens.weight).argmax())
        if token == tokenizer.token_to_id(CHAT_END):
            break
        ids.append(token)
    return str(tokenizer.decode(ids[start:]))


def _optimizer(model: Llama, learning_rate: float) -> torch.optim.AdamW:
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def _schedule(step: int, progress: float) -> float:
    """Linear warm-up, then half a cosine down to the floor; ``progress`` from 0 to 1."""
    cosine = LEARNING_RATE_FLOOR + (1 - LEARNING_RATE_FLOOR) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return min(1.0, (step + 1) / WARM_UP_STEPS) * cosine


def _parse() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_demo_model",
        description="Train Headway's demo model from nothing, on text that a script composes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="directory to write; files in it are replaced")
    parser.add_argument("--minutes", type=float, default=50, help="how long to train, in minutes")
    parser.add_argument("--seed", type=int, default=1, help="of the text and of the first weights")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="the highest one")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens a step")
    parser.add_argument("--vocabulary", type=int, default=3072, help="tokens of the tokenizer")
    parser.add_argument("--threads", type=int, default=2, help="processor threads; one, where other work competes")
    parser.add_argument("--start-from", type=Path, help="an earlier export: go on from its weights and tokenizer")
    parser.add_argument("--save-minutes", type=float, default=5, help="minutes between exports")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
