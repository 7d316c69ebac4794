"""Names in tables of points, and what they stand for here: GPUs, engines and when they are from.

A name that is not listed goes to the planner as it is, which knows it or the row is skipped.
"""

from __future__ import annotations

import re

GPUS: dict[str, tuple[str, str]] = {
    "A100 (memory not stated)": (
        "a100-40-sxm",
        "40 GB: at 64 sequences of 2048 a 7B model that caches 0.5 MB a token takes 3.5 times as long as at 16, and a "
        "70B model barely fits four of them; 80 GB would hold both",
    ),
    "A100 40GB": ("a100-40-sxm", "servers of eight"),
    "A100 40GB (memory not stated in the table)": ("a100-40-sxm", "the other figures of that post are for 40 GB"),
    "A100 (PCIe links)": ("a100-80-pcie", "70B in fp16 ran on two"),
    "A100 SXM 80GB": ("a100-80-sxm", ""),
    "A100 PCIe 80GB": ("a100-80-pcie", ""),
    "H100 80GB (form factor not stated)": ("h100-sxm", "these publishers' H100 systems are SXM servers"),
    "H100 (form factor not stated)": ("h100-sxm", "its intercept of 6.4 ms for 16 GB of weights needs over 2.5 TB/s"),
    "H100 SXM 80GB": ("h100-sxm", ""),
    "H100 PCIe 80GB": ("h100-pcie", ""),
    "H100 NVL 94GB": ("h100-nvl", ""),
    "H200 SXM 141GB": ("h200-sxm", ""),
    "H200 NVL 141GB": ("h200-nvl", ""),
    "B200 SXM 180GB": ("b200-sxm", ""),
    "T4 16GB": ("T4", ""),
}
"""By name in a table: name in the catalogue, and why, where the table leaves a choice."""


def gpu_name(text: str) -> str:
    """One name for one GPU, however a table writes it: the catalogue's, where it is listed."""
    return GPUS.get(text, (text, ""))[0]


ODD_GPUS = {
    "power-capped": "the H100's own figures repeated (TPOT) or times 1.3 (prefill), not a measurement",
    "MaxQ": "runs below the power of its data sheet",
    "CTS": "runs above the power of its data sheet",
    "/": "more than one GPU in one row",
}
"""By a part of the name: why such rows are skipped."""

_ENGINES = (
    (r"llama\.cpp|exllama|mlc|lmdeploy|transformers", None),
    (r"^vllm vs ", None),
    (r"tgi", "eager-2023"),
    (r"2023, eager", "eager-2023"),
    (r"fastertransformer", "fastertransformer"),
    (r"tensorrt|trtllm|trt-llm", "trtllm"),
    (r"sglang", "sglang"),
    (r"vllm", "vllm"),
)
_EAGER_VLLM_UNTIL = 2023
_OF_2024 = {"vllm": "vllm-2024", "trtllm": "trtllm-2024"}
"""Runtimes before vLLM's V1 and TensorRT-LLM's PyTorch backend, both of 2025."""


def engine_profile(engine: str, year: int | None) -> str | None:
    """The planner's profile for an engine as a table names it; None for one without. vLLM ran eagerly until 2023."""
    name = next((name for pattern, name in _ENGINES if re.search(pattern, engine.lower())), None)
    if name == "vllm" and year is not None and year <= _EAGER_VLLM_UNTIL:
        return "eager-2023"
    return _OF_2024.get(name, name) if name is not None and year is not None and year <= 2024 else name


_ENDED_BY_2023 = ("fastertransformer", "tgis")


def engine_year(engine: str, date: str) -> int | None:
    """The year an engine is from, by the first rule that applies; None where nothing says.

    1. A year in its name ("vLLM (2023, eager)"). 2. FasterTransformer and IBM's TGIS ended with 2023. 3. The date of
    the measurement: nobody measured an engine that was a year old.
    """
    named = re.search(r"\b(20\d\d)\b", engine)
    if named:
        return int(named.group(1))
    if any(each in engine.lower() for each in _ENDED_BY_2023):
        return 2023
    dated = re.match(r"20\d\d", date)
    return int(dated.group()) if dated else None
