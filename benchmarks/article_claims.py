"""The claims of the article about batches, GPUs and links, each as checks against what was measured.

Published values and where they are from: docs/article.md. Bands were fixed before the planner predicted anything; those
of absolute levels are 25 % wherever there is one to compare with. An engine is that of the measurement compared with:
of the profiles there are, the one of its name and year.
"""

from __future__ import annotations

from benchmarks.article_case import Check, Scope, about, cut, model_on, static_batch_s
from headway.plan.steady import decode_s, max_throughput
from headway.policy.stepshape import StepShape

LEVEL = 0.25
RATIO = 0.20
MPT, LLAMA_70B, LLAMA_8B = "mpt-7b", "llama-2-70b", "llama-3.1-8b"
A100_40, A100, A100_PCIE, H100, B200 = "a100-40-sxm", "a100-80-sxm", "a100-80-pcie", "h100-sxm", "b200-sxm"

TABLE_2 = {1: {1: 0.9, 4: 3.2, 8: 5.3, 16: 8.0, 32: 10.5, 64: 12.5}, 2: {1: 1.3, 16: 9.5}, 4: {1: 1.7, 16: 18.0}}
"""Requests a second by GPUs and batch: MPT-7B, 512 tokens in, 64 out, FasterTransformer, A100 (Databricks 2023)."""
SPLITWISE_TPOT_S = {A100: {1: 0.042419, 16: 0.048518}, H100: {1: 0.029441, 16: 0.032843}}
"""By batch: Llama2-70B, TP4, prompts of 128 (A100, 1), 1024 (H100, 1) and 512 tokens, vLLM of 2023 (Splitwise)."""
SPLITWISE_PROMPTS = {A100: {1: 128, 16: 512}, H100: {1: 1024, 16: 512}}
MAX_TOKENS_S: dict[tuple[int, int, int], tuple[float | None, float]] = {
    (4, 128, 128): (2420.9, 1272.7),
    (4, 2048, 128): (278.4, 150.7),
    (4, 500, 2000): (2096.2, 1176.4),
    (8, 128, 128): (4572.3, 1212.1),
    (8, 2048, 128): (None, 142.6),
    (8, 2048, 2048): (None, 858.7),
}
"""Output tokens a second by GPUs, prompt and answer, on A100 SXM and PCIe 80 GB: Llama-3.1-70B, TensorRT-LLM 0.14."""


def batching(scope: Scope) -> list[Check]:
    """Batch 1 to 64 on one A100: 14 times the throughput, 4 times the latency."""
    checks = []
    for engine, gated in (("fastertransformer", True), ("trtllm-2024", False)):
        on = model_on(MPT, A100_40, scope.engine(engine))
        seconds = {batch: static_batch_s(on, batch, 512, 64) for batch in TABLE_2[1]}
        rates = {batch: batch / seconds[batch] for batch in seconds}
        pairs = [
            (f"{engine} throughput ratio", rates[64] / rates[1], 13.9, RATIO),
            (f"{engine} latency ratio", seconds[64] / seconds[1], 4.6, RATIO),
            *((f"{engine} req/s at {batch}", rates[batch], TABLE_2[1][batch], LEVEL) for batch in rates),
        ]
        for name, predicted, published, share in pairs:
            judged = gated and (share == RATIO or name.endswith((" 1", " 64")))
            made = about(name, predicted, published, share)
            checks.append(made if judged else Check(name=name, predicted=predicted, published=published))
    return checks


def new_gpu(scope: Scope) -> list[Check]:
    """A100 to H100: 35 to 45 % less time per token."""
    checks = []
    for batch in (1, 16, 64):
        h100 = decode_s(model_on(LLAMA_70B, H100, scope.engine("trtllm-2024"), 4), batch, 544)
        a100 = decode_s(model_on(LLAMA_70B, A100, scope.engine("trtllm-2024"), 4), batch, 544)
        old = decode_s(model_on(LLAMA_70B, A100_40, scope.engine("trtllm-2024"), 4), batch, 544)
        checks.append(Check(name=f"cut from A100-80 at {batch}", predicted=cut(a100, h100), low=0.32, high=0.50))
        published = {1: 0.36, 16: 0.52}.get(batch)
        checks.append(Check(name=f"cut from A100-40 at {batch}", predicted=cut(old, h100), published=published))
    for gpu, levels in SPLITWISE_TPOT_S.items():
        on = model_on(LLAMA_70B, gpu, scope.engine("eager-2023"), 4)
        for batch, measured in levels.items():
            predicted = decode_s(on, batch, SPLITWISE_PROMPTS[gpu][batch] + 64)
            checks.append(about(f"eager ms per token on {gpu} at {batch}", 1000 * predicted, 1000 * measured, LEVEL))
    return checks


def more_gpus(scope: Scope) -> list[Check]:
    """Tensor parallelism 2 to 4: 12 % less latency at batch 1, 33 % at batch 16."""
    checks = []
    for engine, gated in (("trtllm-2024", True), ("fastertransformer", False), ("vllm", False)):
        two, four = (model_on(MPT, A100_40, scope.engine(engine), tp) for tp in (2, 4))
        cuts = {batch: cut(decode_s(two, batch, 160), decode_s(four, batch, 160)) for batch in (1, 16)}
        for batch, low, high, published in ((1, 0.12, 0.30, 0.12), (16, 0.26, 0.47, 0.33)):
            name = f"{engine} cut at {batch}"
            band = {"low": low, "high": high} if gated else {}
            checks.append(Check(name=name, predicted=cuts[batch], published=published, **band))
        grows = cuts[16] - cuts[1]
        checks.append(Check(name=f"{engine} cut at 16 less that at 1", predicted=grows, low=0.0 if gated else None))
    for tp in (2, 4):
        on = model_on(MPT, A100_40, scope.engine("fastertransformer"), tp)
        for batch, measured in TABLE_2[tp].items():
            rate = batch / static_batch_s(on, batch, 512, 64)
            checks.append(about(f"fastertransformer req/s on {tp} at {batch}", rate, measured, LEVEL))
    return checks


def links(scope: Scope) -> list[Check]:
    """NVLink cuts the communication of tensor parallelism by 20 to 30 % against PCIe."""
    checks, cuts = [], {}
    for tp in (2, 4, 8):
        fast = model_on(LLAMA_70B, A100, scope.engine("trtllm-2024"), tp)
        slow = model_on(LLAMA_70B, A100, scope.engine("trtllm-2024"), tp, link_of=A100_PCIE)
        for batch in (1, 16, 64):
            cuts[tp, batch] = cut(decode_s(slow, batch, 544), decode_s(fast, batch, 544))
            checks.append(Check(name=f"cut of a step TP{tp} at {batch}", predicted=cuts[tp, batch]))
            if batch in (1, 64):
                parts = slow.all_reduces_s(batch), fast.all_reduces_s(batch)
                checks.append(Check(name=f"cut of communication TP{tp} at {batch}", predicted=cut(*parts)))
        shape = StepShape(1024, 1, 0, 1024 * 512.0)
        checks.append(
            Check(name=f"cut of a prompt of 1024 TP{tp}", predicted=cut(slow.step_s(shape), fast.step_s(shape)))
        )
    grows = [cuts[tp, b] - cuts[tp, a] for tp in (2, 4, 8) for a, b in ((1, 16), (16, 64))]
    grows += [cuts[b, batch] - cuts[a, batch] for batch in (1, 16, 64) for a, b in ((2, 4), (4, 8))]
    checks.append(Check(name="least growth of the cut with batch or GPUs", predicted=min(grows), low=0.0))
    for (tp, prompt, answer), (sxm, pcie) in MAX_TOKENS_S.items():
        nvlink, pcie_rate = (max_rate(scope, gpu, tp, prompt, answer) for gpu in (A100, A100_PCIE))
        where = f"TP{tp} {prompt} in {answer} out"
        checks.append(Check(name=f"tok/s over PCIe {where}", predicted=pcie_rate, published=pcie))
        if sxm is not None:
            checks.append(Check(name=f"tok/s over NVLink {where}", predicted=nvlink, published=sxm))
            checks.append(
                Check(name=f"loss over PCIe {where}", predicted=cut(nvlink, pcie_rate), published=cut(sxm, pcie))
            )
    return checks


def max_rate(scope: Scope, gpu: str, tp: int, prompt: int, answer: int) -> float:
    return max_throughput(
        model_on("llama-3.1-70b", gpu, scope.engine("trtllm-2024"), tp), prompt, answer
    ).output_tokens_s


def blackwell(scope: Scope) -> list[Check]:
    """Blackwell makes the trade-off 30 % less severe. Severity is our word for it: by what share a token takes longer
    in a batch than alone."""
    checks = []
    severity: dict[str, dict[int, float]] = {}
    for gpu in (A100, H100, B200):
        on = model_on(LLAMA_8B, gpu, scope.engine("vllm"))
        alone_s = decode_s(on, 1, 1500)
        severity[gpu] = {batch: decode_s(on, batch, 1500) / alone_s - 1.0 for batch in (16, 64, 256)}
    for batch in (16, 64, 256):
        for gpu in (H100, A100):
            name = f"severity at {batch} below that of {gpu}"
            checks.append(Check(name=name, predicted=cut(severity[gpu][batch], severity[B200][batch])))
    h100, b200 = (decode_s(model_on(LLAMA_70B, gpu, scope.engine("vllm"), 4), 16, 544) for gpu in (H100, B200))
    checks.append(Check(name="cut of a step from H100 to B200, 70B TP4 at 16", predicted=cut(h100, b200)))
    for gpu, published in ((H100, (6.44, 4.37e-5)), (B200, (3.93, 1.80e-5))):
        on = model_on(LLAMA_8B, gpu, scope.engine("vllm"))
        step = 1000 * decode_s(on, 1, 0), (decode_s(on, 1, 100_000) - decode_s(on, 1, 0)) / 100
        checks.append(Check(name=f"{gpu} ms of a step at batch 1", predicted=step[0], published=published[0]))
        checks.append(Check(name=f"{gpu} ms per token of context", predicted=step[1], published=published[1]))
    return checks
