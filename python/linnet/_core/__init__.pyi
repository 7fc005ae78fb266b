"""The extension module, as the Python face uses it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

version: str

class Port(TypedDict):
    name: str
    kind: str
    optional: bool
    dtype: str
    onnx_dtype: str
    shape: list[int | str | None] | None
    map_key: str

class Info(TypedDict):
    producer_name: str
    producer_version: str
    domain: str
    graph_name: str
    description: str
    graph_description: str
    version: int
    ir_version: int
    opsets: list[tuple[str, int]]
    metadata: dict[str, str]

class SessionOptions:
    threads: int
    optimization: int
    exact: bool
    profile: bool
    memory_limit: int
    max_model_bytes: int
    max_nodes: int
    max_nesting: int
    max_rank: int
    dimensions: dict[str, int]
    denotations: dict[str, int]
    def set_initializer(self, name: str, value: Any) -> None: ...
    extra_outputs: list[str]
    optimized_model: str | Path
    stop_after: int
    title: str

class Flag:
    def set(self, on: bool) -> None: ...
    def get(self) -> bool: ...

class Session:
    def __init__(self, path: str | Path, options: SessionOptions) -> None: ...
    @staticmethod
    def from_bytes(data: bytes, options: SessionOptions) -> Session: ...
    def inputs(self) -> list[Port]: ...
    def outputs(self) -> list[Port]: ...
    def overridable(self) -> list[Port]: ...
    def info(self) -> Info: ...
    @property
    def threads(self) -> int: ...
    def run(
        self,
        feeds: dict[str, Any],
        output_names: Iterable[str] | None = None,
        terminate: Flag | None = None,
        time_limit_ms: int = 0,
        destinations: dict[str, Any] | None = None,
        threads: int = 0,
    ) -> list[Any]: ...
    def dump(self, stage: str = "lower") -> str: ...
    def profile(self) -> list[dict[str, Any]]: ...
    def trace_json(self) -> str: ...

class Statistics(TypedDict):
    count: int
    min: float
    max: float
    zeros: int
    low: float
    high: float
    histogram: npt.NDArray[np.int64]
    channel_min: npt.NDArray[np.float32]
    channel_max: npt.NDArray[np.float32]
    channel_sum: npt.NDArray[np.float64]

class Calibrator:
    def __init__(self, session: Session, values: list[str], axes: dict[str, int] = ...) -> None: ...
    def add(self, feeds: dict[str, Any]) -> None: ...
    @property
    def samples(self) -> int: ...
    def statistics(self) -> dict[str, Statistics]: ...
    def range(
        self, value: str, method: str, levels: int = 256, symmetric: bool = False, percentile: float = ...
    ) -> tuple[float, float]: ...

class NoiseMeter:
    def __init__(self, reference: Session, other: Session, values: list[str]) -> None: ...
    def add(self, feeds: dict[str, Any]) -> None: ...
    def noise(self) -> dict[str, tuple[float, float]]: ...

def describe(session: Session, stage: str, shapes: dict[str, list[int]]) -> dict[str, Any]: ...
def plan(session: Session, shapes: dict[str, list[int]]) -> dict[str, Any]: ...
def kernel_tables() -> list[tuple[str, bool]]: ...
def measure_peak(threads: int) -> float: ...
def measure_bandwidth(threads: int, bytes: int) -> float: ...
def available_cpus() -> int: ...
def isa() -> str: ...
def ops() -> list[tuple[str, str, int]]: ...
def read_value(data: bytes, kind: str = "tensor") -> Any: ...
def write_value(value: Any, name: str = "") -> bytes: ...
