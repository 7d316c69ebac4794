"""The compiled module. Addresses are integers; nothing is checked here but in ``native.py``."""

class Pool:
    def __init__(self, threads: int, cpus: list[int]) -> None: ...
    @property
    def threads(self) -> int: ...
    def exercise(self, regions: int, barriers: int, pieces: int) -> int: ...

class Linear:
    def __init__(
        self, *, int8: bool, outputs: int, inputs: int, data: int, scales: int, sums: int, bias: int
    ) -> None: ...

def kernels(name: str) -> str: ...
def pack(
    *,
    kernels: str,
    pool: Pool,
    int8: bool,
    weight: int,
    outputs: int,
    inputs: int,
    data: int,
    scales: int,
    sums: int,
) -> None: ...
def multiply(
    *,
    kernels: str,
    pool: Pool,
    linear: Linear,
    rows: int,
    stride: int,
    scales: int,
    count: int,
    chunk: int,
    into: int,
    out: int,
    out_stride: int,
) -> None: ...
def read(pool: Pool, data: int, bytes: int) -> None: ...
def dot(pool: Pool, int8: bool, rounds: int) -> float: ...
