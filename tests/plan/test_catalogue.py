"""GPUs by name, their figures and where those are from; files and prices of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.plan.catalogue import BYTES_MAX, OWN_PRICE, find_gpu, gpus, parse_price, priced
from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu
from headway.plan.precision import Precision

SHIPPED = gpus()
EVERY = list(SHIPPED.values())
NEW = """
[gpus.mine]
memory_gb = 48
bandwidth_tb_s = 1.2
peak_tflops = { bf16 = 200 }
link = { kind = "pcie", gb_s = 32 }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(PlanError) as caught:
        gpus(written(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder / "own.toml"))
    return message.removeprefix(str(folder / "own.toml"))


@pytest.mark.parametrize("gpu", EVERY, ids=lambda gpu: gpu.name)
def test_every_figure_has_a_source_with_a_date(gpu: Gpu) -> None:
    stated = {"memory", "bandwidth", "peak_tflops", "link", "power"}
    stated |= {"all_reduce"} if gpu.link.all_reduce else set()
    assert stated <= set(gpu.sources)
    if gpu.gemm:
        assert {"gemm", "rates"} & set(gpu.sources)
    if gpu.attention:
        assert {"attention", "rates"} & set(gpu.sources)
    assert all(source.name and source.date for source in gpu.sources.values())
    assert all(price.provider and price.date for price in gpu.prices)


@pytest.mark.parametrize("gpu", EVERY, ids=lambda gpu: gpu.name)
def test_figures_fit_each_other(gpu: Gpu) -> None:
    """Mistaken units stand out in ratios: ops and bytes a second, memory a second, power."""
    assert Precision.BF16 in gpu.peaks
    assert 70 < gpu.peaks[Precision.BF16] / gpu.bandwidth < 500
    assert 10 < gpu.memory_bytes / gpu.bandwidth * 1e3 < 90  # ms to read all memory once
    for precision in (Precision.FP8, Precision.INT8, Precision.FP4):
        if precision in gpu.peaks:
            assert 1.9 < gpu.peaks[precision] / gpu.peaks[Precision.BF16] < 8.1
    assert gpu.power_w is not None
    assert gpu.link.bandwidth < gpu.bandwidth
    if gpu.link.all_reduce is not None:
        assert max(gpu.link.all_reduce.bus.values()) < gpu.link.bandwidth
        assert gpu.link.all_reduce.bus.keys() == gpu.link.all_reduce.start_s.keys()
        assert gpu.link.assumed or not gpu.sources["all_reduce"].name.startswith("of the B200")
    assert all(price.usd_per_hour > 0 for price in gpu.prices)


def test_figures_in_plain_units() -> None:
    h100 = SHIPPED["h100-sxm"]
    assert h100.memory_bytes == 81_559 * 1024**2
    assert h100.bandwidth == 3.35e12
    assert h100.peaks[Precision.FP8] == 1979e12
    assert h100.link.bandwidth == 450e9
    assert h100.link.all_reduce is not None
    assert h100.link.all_reduce.start_s[8] == pytest.approx(4.7e-6)
    assert h100.link.all_reduce.bus[4] == 340e9
    assert h100.gemm[Precision.BF16].start_s == pytest.approx(3.7e-6)
    assert h100.attention is not None
    assert h100.attention.prefill[0] == (512, 0.16)
    assert h100.price is not None
    assert (h100.price.usd_per_hour, h100.price.provider) == (2.95, "Nebius (SkyPilot catalogue)")


def test_rates_come_with_the_same_cores() -> None:
    assert SHIPPED["a100-40-sxm"].gemm == SHIPPED["a100-80-sxm"].gemm
    assert SHIPPED["a100-40-sxm"].bandwidth < SHIPPED["a100-80-sxm"].bandwidth
    assert not SHIPPED["t4"].gemm


def test_a_price_may_be_unknown() -> None:
    assert SHIPPED["t4"].price is None


@pytest.mark.parametrize(
    ("written_as", "name"),
    [
        ("h100-sxm", "h100-sxm"),
        ("H100", "h100-sxm"),
        ("H100 SXM 80GB", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3 SXM5", "h100-sxm"),
        ("H100 PCIe", "h100-pcie"),
        ("H100 NVL 94GB", "h100-nvl"),
        ("A100 40GB", "a100-40-sxm"),
        ("A100 80GB SXM4", "a100-80-sxm"),
        ("A100 PCIe 80GB", "a100-80-pcie"),
        ("H200 SXM 141GB", "h200-sxm"),
        ("B200 SXM 180GB", "b200-sxm"),
        ("RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("RTX 6000 Ada 48GB", "rtx-6000-ada"),
        ("RTX PRO 6000", "rtx-pro-6000"),
        ("AMD Instinct MI300X", "mi300x"),
        ("T4 16GB", "t4"),
        ("GH200", "gh200"),
    ],
)
def test_spellings(written_as: str, name: str) -> None:
    assert find_gpu(written_as, SHIPPED).name == name


def test_every_gpu_is_found_by_each_of_its_names() -> None:
    for gpu in EVERY:
        assert {find_gpu(each, SHIPPED).name for each in (gpu.name, gpu.title, *gpu.aliases)} == {gpu.name}


@pytest.mark.parametrize(("asked", "meant"), [("h1000", "h100-sxm"), ("RTX 4080", "rtx-4090"), ("A100 20GB", "a100-4")])
def test_near_misses_are_named(asked: str, meant: str) -> None:
    with pytest.raises(PlanError, match=f"is no GPU of the catalogue; did you mean .*{meant}"):
        find_gpu(asked, SHIPPED)


@pytest.mark.parametrize("asked", ["", "???", "qqq", "z" * 5000])
def test_nonsense_names_what_is_known(asked: str) -> None:
    with pytest.raises(PlanError, match=r"known: a10, .*TOML file of your own") as caught:
        find_gpu(asked, SHIPPED)
    assert len(str(caught.value)) < 600


def test_a_gpu_of_ones_own_needs_four_facts(tmp_path: Path) -> None:
    found = gpus(written(tmp_path, NEW))
    assert found.keys() == SHIPPED.keys() | {"mine"}
    mine = found["mine"]
    assert (mine.memory_bytes, mine.bandwidth, mine.peaks[Precision.BF16]) == (48e9, 1.2e12, 200e12)
    assert (mine.link.kind, mine.link.bandwidth, mine.link.most, mine.link.assumed) == ("pcie", 32e9, 8, True)
    assert (mine.price, mine.power_w, mine.gemm, mine.attention) == (None, None, {}, None)
    assert mine.sources["memory"].name == str(tmp_path / "own.toml")


def test_a_known_gpu_is_changed_only_in_what_is_said(tmp_path: Path) -> None:
    own = """
    [gpus.l40s]
    memory_gb = 40
    link.all_reduce_us = { 2 = 9.0 }
    link.all_reduce_gb_s = { 2 = 11.0 }
    sources.all_reduce = "my probe"
    """
    changed, shipped = gpus(written(tmp_path, own))["l40s"], SHIPPED["l40s"]
    assert changed.memory_bytes == 40e9
    assert (changed.bandwidth, changed.peaks, changed.gemm) == (shipped.bandwidth, shipped.peaks, shipped.gemm)
    assert changed.link.all_reduce is not None
    assert changed.link.all_reduce.bus == {2: 11e9}
    assert changed.link.kind == "pcie"
    assert not changed.link.assumed
    assert changed.sources["memory"].name == str(tmp_path / "own.toml")
    assert changed.sources["all_reduce"].name == "my probe"
    assert changed.sources["bandwidth"] == shipped.sources["bandwidth"]


def test_another_kind_of_link_takes_nothing_from_the_old_one(tmp_path: Path) -> None:
    own = '[gpus.h100-sxm]\nlink = { kind = "pcie", gb_s = 64 }'
    link = gpus(written(tmp_path, own))["h100-sxm"].link
    assert (link.kind, link.all_reduce, link.assumed) == ("pcie", None, True)


def test_rates_of_another_gpu(tmp_path: Path) -> None:
    found = gpus(written(tmp_path, NEW + 'rates_of = "a100-40-sxm"'))
    assert found["mine"].gemm == SHIPPED["a100-80-sxm"].gemm
    assert found["mine"].attention == SHIPPED["a100-80-sxm"].attention


def test_ones_own_name_comes_before_a_shipped_alias(tmp_path: Path) -> None:
    found = gpus(written(tmp_path, NEW.replace("mine", "h100")))
    assert find_gpu("H100", found).name == "h100"
    assert find_gpu("H100", SHIPPED).name == "h100-sxm"


@pytest.mark.parametrize(
    ("given", "wrong", "message"),
    [
        ("bandwidth_tb_s = 1.2", "bandwidth_tb_s = 3350", "if 3350 is in GB/s, write 3.35"),
        ("bandwidth_tb_s = 1.2", "bandwidth_gb_s = 3.35", "if 3.35 is in TB/s, write 3350"),
        ("bandwidth_tb_s = 1.2", "bandwidth_tb_s = -1", "bandwidth_tb_s = -1 is outside 0.02 to 50 TB/s"),
        ("bandwidth_tb_s = 1.2", "bandwidth_tb_s = nan", "bandwidth_tb_s = nan is outside"),
        ("bandwidth_tb_s = 1.2", "bandwidth_tb_s = inf", "bandwidth_tb_s = inf is outside"),
        ("bandwidth_tb_s = 1.2", "bandwidth_tb_s = 1e300", "is outside 0.02 to 50 TB/s"),
        ("memory_gb = 48", "memory_gb = 49140", "if 49140 is in MB, write 49.14"),
        ("memory_gb = 48", "memory_mib = 48", "if 48 is in GiB, write 49152"),
        ("bf16 = 200", "bf16 = 200000", "peak_tflops.bf16 = 200000 is outside 1 to 100000 TFLOP/s; if 200000 is in"),
        ("bf16 = 200", "bf16 = 0.2", "if 0.2 is in PFLOP/s, write 200"),
        ("gb_s = 32", "gb_s = 32000", "link.gb_s = 32000 is outside 1 to 5000 GB/s; if 32000 is in MB/s, write 32"),
        ("gb_s = 32", "gb_s = 32, most = 0", "link.most = 0 must be from 1 to 1024 GPUs"),
        ("memory_gb = 48", "memory_gb = 48\npower_w = 0.7", "if 0.7 is in kW, write 700"),
        ("memory_gb = 48", "", "give one of memory_mib and memory_gb, not none"),
        ("memory_gb = 48", "memory_gb = 48\nmemory_mib = 49152", "give one of memory_mib and memory_gb, not both"),
        ("{ bf16 = 200 }", "{ }", "peak_tflops is empty"),
        ("bf16 = 200", "bf61 = 200", "Invalid enum value 'bf61'"),
        ("peak_tflops = { bf16 = 200 }", "", "missing required field `peak_tflops`"),
        ('link = { kind = "pcie", gb_s = 32 }', "", "missing required field `link`; needed: memory_gb"),
        ('kind = "pcie"', 'kind = "smoke signals"', "'smoke signals' - at `$.link.kind`; a kind is one of nvswitch,"),
        ("memory_gb = 48", 'memory_gb = "48"', "Expected `float"),
        ("memory_gb = 48", "memory_gb = 48\ncolour = 3", "unknown field `colour`"),
        ("memory_gb = 48", 'memory_gb = 48\nrates_of = "b100"', "rates_of = 'b100' is no other GPU"),
        ("memory_gb = 48", 'memory_gb = 48\nrates_of = "mine"', "rates_of = 'mine' is no other GPU"),
        ("gb_s = 32", "gb_s = 32, all_reduce_us = { 2 = 5 }", "must have the same numbers of GPUs"),
        (
            "gb_s = 32",
            "gb_s = 32, all_reduce_us = { 2 = 5 }, all_reduce_gb_s = { 2 = 20e9 }",
            "link.all_reduce_gb_s = 2e+10 is outside",
        ),
        ("gb_s = 32", "gb_s = 32, all_reduce_us = { 1 = 5 }, all_reduce_gb_s = { 1 = 5 }", "is among 2 to 1024 GPUs"),
        ("memory_gb = 48", 'memory_gb = 48\nprices = [{ usd_per_hour = 900, provider = "x" }]', "in cents, write 9"),
        (
            "memory_gb = 48",
            "memory_gb = 48\ngemm.bf16 = { start_us = 3, compute = 80, memory = 0.8, p = 2 }",
            "compute = 80 is outside 0.01 to 1 as a fraction; if 80 is in per cent, write 0.8",
        ),
        (
            "memory_gb = 48",
            "memory_gb = 48\nattention = { start_us = 9, decode_memory = 0.8, prefill = [[512, 0.3], [128, 0.2]] }",
            "with ascending tokens",
        ),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, given: str, wrong: str, message: str) -> None:
    assert given in NEW
    assert message in refusal(tmp_path, NEW.replace(given, wrong))


def test_files_that_are_no_catalogue(tmp_path: Path) -> None:
    assert "no TOML" in refusal(tmp_path, "[gpus")
    assert "a file has [gpus.NAME] tables" in refusal(tmp_path, "[gpu.mine]\nmemory_gb = 1")
    assert "a name has letters or digits" in refusal(tmp_path, NEW.replace("gpus.mine", 'gpus."--"'))
    assert gpus(written(tmp_path, "")) == SHIPPED


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nowhere\.toml: No such file"):
        gpus(tmp_path / "nowhere.toml")
    with pytest.raises(PlanError, match="Is a directory"):
        gpus(tmp_path)
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="not UTF-8 text"):
        gpus(path)
    with path.open("wb") as file:
        file.truncate(BYTES_MAX + 1)
    with pytest.raises(PlanError, match="which no file of GPUs is"):
        gpus(path)


def test_prices_of_ones_own_come_first(tmp_path: Path) -> None:
    found = gpus(written(tmp_path, NEW + "[prices]\nmine = 0.4\nH100 = 2.1"))
    assert found["mine"].price is not None
    assert found["mine"].price.usd_per_hour == 0.4
    h100 = found["h100-sxm"]
    assert h100.price is not None
    assert (h100.price.usd_per_hour, h100.price.provider) == (2.1, OWN_PRICE)
    assert h100.prices[1:] == SHIPPED["h100-sxm"].prices
    with pytest.raises(PlanError, match="'h1000' is no GPU"):
        gpus(written(tmp_path, "[prices]\nh1000 = 2"))
    assert "usd_per_hour = 0 is outside" in refusal(tmp_path, "[prices]\nh100 = 0")


def test_a_price_as_an_option() -> None:
    assert parse_price("h100-sxm=2.95") == ("h100-sxm", 2.95)
    assert parse_price(" RTX 4090 = $0.34 ") == ("RTX 4090", 0.34)
    changed = priced(SHIPPED, dict([parse_price("h100=2.5")]))
    assert changed["h100-sxm"].price is not None
    assert changed["h100-sxm"].price.usd_per_hour == 2.5
    assert SHIPPED["h100-sxm"].price != changed["h100-sxm"].price


@pytest.mark.parametrize("text", ["", "h100", "=2.95", "h100=", "h100=cheap", "h100=nan", "h100=2,95"])
def test_a_price_that_is_none(text: str) -> None:
    with pytest.raises(PlanError, match=r"must be GPU=DOLLARS an hour for one GPU, as h100-sxm=2\.95"):
        parse_price(text)


@pytest.mark.parametrize("dollars", [0.0, -1.0, 295.0 * 100, float("inf")])
def test_a_price_that_cannot_be(dollars: float) -> None:
    with pytest.raises(PlanError, match=r"price of h100: usd_per_hour = .* is outside"):
        priced(SHIPPED, {"h100": dollars})
