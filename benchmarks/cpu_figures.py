"""The figures of ``benchmarks.cpu``: medians over rounds, shares of the machine's limits, who is ahead of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.cpu_load import Offered, Point
from benchmarks.cpu_peers import HEADWAY, Entry
from benchmarks.cpu_probe import Speeds
from benchmarks.promise_traffic import Lengths
from headway.models.config import ModelConfig

Figure = float | int | str | None
Figures = dict[str, Figure]

BYTES = {"bf16": 2, "int8": 1}
"""Of a weight."""
OTHERS_MAX = 0.15
"""Cores that may be busy with something else while a server is measured."""
SMALLER_IS_BETTER = ("ttft_ms", "itl_ms")
COMPARED = ("ttft_ms", "itl_ms", "output_tok_s")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. ``before`` and ``after``: the machine; ``others``: cores that were busy with neither the server
    nor the client."""

    values: Mapping[str, float]
    before: Speeds
    after: Speeds
    others: float

    @property
    def speeds(self) -> Speeds:
        return self.before.mean(self.after)

    def is_marked(self, typical: Speeds) -> bool:
        """The machine was not the same before and after, was not its usual self, or had other work."""
        strays = (
            self.before.strays_from(self.after),
            self.before.strays_from(typical),
            self.after.strays_from(typical),
        )
        return self.others > OTHERS_MAX or any(strays)


@dataclass(frozen=True, slots=True)
class Work:
    """What a model has to read and to compute, at ``precision``."""

    weights: int
    """That a decode reads: an embedding that is not the output head too isn't among them."""
    head: int
    precision: str

    @classmethod
    def of(cls, config: ModelConfig, precision: str) -> Work:
        embedding = config.vocab_size * config.hidden_size
        return cls(config.parameters - (0 if config.tied_embeddings else embedding), embedding, precision)

    def read_s(self, speeds: Speeds) -> float:
        """Of all weights once, which no decode can do without."""
        return BYTES[self.precision] * self.weights / (1e9 * speeds.read)

    def operations(self, prompt_tokens: int, output_tokens: int) -> float:
        """Of matrix products; the head is computed for output tokens alone, each of which comes of one more row but the
        first."""
        rows = prompt_tokens + output_tokens - 1
        return 2.0 * (self.weights - self.head) * rows + 2.0 * self.head * output_tokens

    def prompt_tokens(self, operations: float) -> float:
        """Of the longest prompt whose first token takes no more."""
        return max(0.0, (operations - 2.0 * self.head) / (2.0 * (self.weights - self.head)))


def typical(samples: Sequence[Sample]) -> Speeds:
    """The machine as it mostly was."""
    seen = [speeds for each in samples for speeds in (each.before, each.after)]
    return Speeds(*(median(getattr(each, name) for each in seen) for name in ("read", "bf16", "int8")))


def point_figures(point: Point, samples: Sequence[Sample], work: Work, usual: Speeds, reached: float) -> Figures:
    """Of one server at one point, over the rounds. ``reached``: what matrix products reach of the probed rate."""
    at = f"{point.prompt_tokens}x{point.streams}"
    figures: Figures = {}
    for name in ("ttft_ms", "itl_ms", "output_tok_s"):
        values = [each.values[name] for each in samples]
        figures[f"{name}_{at}"] = round(median(values), 2)
        if len(values) > 1:
            figures[f"{name}_{at}_spread"] = round((max(values) - min(values)) / median(values), 3)
    events = min(each.values["events_per_token"] for each in samples)
    if events < 0.99:
        figures[f"events_per_token_{at}"] = round(events, 3)
    if marked := sum(each.is_marked(usual) for each in samples):
        figures[f"rounds_marked_{at}"] = marked
    return figures | {f"{name}_{at}": round(value, 3) for name, value in _shares(point, samples, work, reached).items()}


def _shares(point: Point, samples: Sequence[Sample], work: Work, reached: float) -> dict[str, float]:
    """Of the limits as they were at that very time; medians over the rounds."""
    whole = work.operations(point.prompt_tokens, point.output_tokens)
    first = work.operations(point.prompt_tokens, 1)
    reads, prefills, loads = [], [], []
    for each in samples:
        products = 1e9 * reached * each.speeds.of(work.precision)
        reads.append(1000 * work.read_s(each.speeds) / each.values["itl_ms"])
        prefills.append(1000 * first / products / each.values["ttft_ms"])
        loads.append(each.values["output_tok_s"] / point.output_tokens * whole / products)
    if point.streams == 1:
        return {"itl_share_of_read": median(reads), "ttft_share_of_gemm": median(prefills)}
    return {"output_tok_s_share_of_gemm": median(loads)}


def capacity_figures(rounds: Sequence[float], offered: Sequence[Offered]) -> Figures:
    """``rounds``: the largest rate kept in each, 0 if none was."""
    middle = median(rounds)
    figures: Figures = {"capacity_requests_s": round(middle, 3)}
    if len(rounds) > 1:
        figures["capacity_rounds"] = ", ".join(f"{each:.2f}" for each in rounds)
    if not middle:
        figures["capacity_lowest_tried"] = round(min(each.rate for each in offered), 3)
    whole = [each for each in offered if each.is_whole]
    if whole:
        best = max(whole, key=lambda each: each.verdict.goodput)
        figures["goodput_requests_s"] = round(best.verdict.goodput, 3)
        figures["goodput_at_rate"] = round(best.rate, 3)
        figures["goodput_attainment"] = round(best.verdict.attainment, 3)
    figures["windows"] = "; ".join(_window(each) for each in offered)
    return figures


def beyond_limit(work: Work, usual: Speeds, reached: float, ttft_s: float, prompt: Lengths) -> float:
    """The share of conversations that no server can begin to answer in time here, not even one that computes nothing
    but matrix products, at the machine's rate, with nobody else there."""
    return prompt.share_above(work.prompt_tokens(1e9 * reached * usual.of(work.precision) * ttft_s))


def _window(each: Offered) -> str:
    if not each.is_whole:
        return f"{each.rate:.2f}: ended"
    return f"{each.rate:.2f}: {each.verdict.in_slo} of {each.verdict.offered}"


def comparison(figures: Mapping[Entry, Figures]) -> Figures:
    """Headway against the best peer of equal precision, above 1 where Headway is ahead; and its int8 against bf16."""
    ours = {each.precision: each for each in figures if each.name.startswith(HEADWAY)}
    found: Figures = {}
    for precision, entry in ours.items():
        for against in {precision, "bf16"}:
            peers = {each: figures[each] for each in figures if each.command and each.precision == against}
            names = [name for name in figures[entry] if _is_compared(name, same=against == precision)]
            for name in names:
                found |= _ahead(f"{entry.name}_{name}", figures[entry], name, peers, against)
    return found


def _is_compared(name: str, *, same: bool) -> bool:
    if name == "capacity_requests_s":
        return True
    kind, _, at = name.rpartition("_")
    return same and kind in COMPARED and "x" in at


def _ahead(key: str, ours: Figures, name: str, peers: Mapping[Entry, Figures], against: str) -> Figures:
    theirs = {each: value for each, known in peers.items() if isinstance(value := known.get(name), float | int)}
    own = ours[name]
    if not theirs or not isinstance(own, float | int):
        return {}
    smaller = name.startswith(SMALLER_IS_BETTER)
    best = (min if smaller else max)(theirs, key=lambda each: theirs[each])
    over, under = (theirs[best], own) if smaller else (own, theirs[best])
    label = f"{key}_over_best_{against}_peer"
    return {label: round(over / under, 3) if under else None, f"{label}_which": best.name if theirs[best] else "none"}
