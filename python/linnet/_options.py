"""Options of sessions and runs, with onnxruntime's names."""

from __future__ import annotations

import copy
import enum
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from linnet import _core, _errors
from linnet._values import OrtValue


class _Named(enum.IntEnum):
    """Prints as onnxruntime's enumerations do: the class's and the member's name."""

    __str__ = enum.Enum.__str__
    __format__ = enum.Enum.__format__


class GraphOptimizationLevel(_Named):
    """How far the graph is rewritten. BASIC simplifies; everything above also fuses for this machine."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(_Named):
    """Accepted for compatibility: steps run one after another, each on all threads."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(_Named):
    """Accepted for compatibility: the plan's order is the only one."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


_LIMITS = ("memory_limit", "max_model_bytes", "max_nodes", "max_nesting", "max_rank")
_DEFAULTS = _core.SessionOptions()
_INT, _TEXT = (int, np.integer), (str, os.PathLike)


class _Checked:
    """A misspelt option is an AttributeError and a value of the wrong type a TypeError, as with onnxruntime."""

    _types: ClassVar[dict[str, tuple[type, ...]]]

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_":
            allowed = self._types.get(name)
            if allowed is None:
                raise AttributeError(
                    f"{type(self).__name__} has no option {name!r}; there are {', '.join(sorted(self._types))}"
                )
            if not isinstance(value, allowed):
                raise TypeError(f"{name} takes {allowed[0].__name__}, not {type(value).__name__} ({value!r})")
        super().__setattr__(name, value)


class SessionOptions(_Checked):
    """Options of an `InferenceSession`.

    Those that change something: ``intra_op_num_threads`` (0: all CPUs the process may use),
    ``graph_optimization_level``, ``optimized_model_filepath`` (the simplified model is written there as ONNX),
    ``enable_profiling`` with ``profile_file_prefix``, the free dimension overrides, and the config entry
    ``linnet.exact`` = "1" (nothing that rounds more than a reordered sum does). Limits, beyond which a model is an
    error: ``memory_limit`` (bytes that weights, intermediates and results under way may take together; 0: the memory
    that the process may use), ``max_model_bytes`` (the file with its external data), ``max_nodes`` (of the graph and
    its subgraphs, functions inlined), ``max_nesting`` (of subgraphs and functions) and ``max_rank`` (of tensors, at
    most 64). The others exist so that code written
    for onnxruntime runs; what they say is either always so here or has no meaning on a CPU.
    """

    _types: ClassVar[dict[str, tuple[type, ...]]] = {
        **dict.fromkeys(
            (
                "intra_op_num_threads", "inter_op_num_threads", "graph_optimization_level", "execution_mode",
                "execution_order", "log_severity_level", "log_verbosity_level", *_LIMITS,
            ),
            _INT,
        ),
        **dict.fromkeys(("optimized_model_filepath", "profile_file_prefix", "logid"), _TEXT),
        **dict.fromkeys(
            (
                "enable_profiling", "enable_cpu_mem_arena", "enable_mem_pattern", "enable_mem_reuse",
                "use_deterministic_compute", "use_per_session_threads",
            ),
            (bool, np.bool_, int),
        ),
    }  # fmt: skip

    def __init__(self) -> None:
        self.intra_op_num_threads: int = 0
        self.inter_op_num_threads: int = 0
        self.graph_optimization_level: int = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.optimized_model_filepath: str | Path = ""
        self.enable_profiling: bool = False
        self.profile_file_prefix: str | Path = "linnet_profile_"
        self.execution_mode: int = ExecutionMode.ORT_SEQUENTIAL
        self.execution_order: int = ExecutionOrder.DEFAULT
        self.enable_cpu_mem_arena: bool = True
        self.enable_mem_pattern: bool = True
        self.enable_mem_reuse: bool = True
        self.use_deterministic_compute: bool = True
        self.use_per_session_threads: bool = False
        self.log_severity_level: int = -1
        self.log_verbosity_level: int = 0
        self.logid: str = ""
        self.memory_limit: int = 0
        self.max_model_bytes: int = _DEFAULTS.max_model_bytes
        self.max_nodes: int = _DEFAULTS.max_nodes
        self.max_nesting: int = _DEFAULTS.max_nesting
        self.max_rank: int = _DEFAULTS.max_rank
        self._config: dict[str, str] = {}
        self._dimensions: dict[str, int] = {}
        self._denotations: dict[str, int] = {}
        self._initializers: dict[str, Any] = {}
        self._providers: list[str] = []

    def _copied(self) -> SessionOptions:
        own = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, (dict, list)):
                setattr(own, name, copy.copy(value))
        return own

    def add_session_config_entry(self, config_key: str, config_value: str) -> None:
        """Sets a config entry. Entries that Linnet does not know are kept and have no effect."""
        self._config[str(config_key)] = str(config_value)

    def get_session_config_entry(self, config_key: str) -> str:
        """The value of a config entry that was set; raises otherwise."""
        try:
            return self._config[config_key]
        except KeyError:
            raise _errors.RuntimeException(f"no config entry {config_key!r} has been set") from None

    def has_session_config_entry(self, config_key: str) -> bool:
        """Whether the entry was set."""
        return config_key in self._config

    def add_free_dimension_override_by_name(self, dim_name: str, dim_value: int) -> None:
        """Gives the symbolic input dimension `dim_name` a number."""
        self._dimensions[dim_name] = int(dim_value)

    def add_free_dimension_override_by_denotation(self, dim_denotation: str, dim_value: int) -> None:
        """Gives the input dimensions that denote `dim_denotation` ("DATA_BATCH") a number."""
        self._denotations[dim_denotation] = int(dim_value)

    def add_initializer(self, name: str, ortvalue: OrtValue) -> None:
        """Has the session take this value instead of the model's initializer of that name."""
        self._initializers[str(name)] = ortvalue.numpy()

    def add_external_initializers(self, names: Sequence[str], values: Sequence[OrtValue]) -> None:
        """As `add_initializer` for several: the files they are said to lie in are not opened."""
        if len(names) != len(values):
            raise _errors.InvalidArgument(f"{len(names)} names and {len(values)} values of initializers")
        for name, value in zip(names, values, strict=True):
            self.add_initializer(name, value)

    def add_provider(self, provider_name: str, provider_options: dict[str, str] | None = None) -> None:
        """Accepted for compatibility: the CPU is always used."""
        self._providers.append(str(provider_name))

    def has_providers(self) -> bool:
        """Whether `add_provider` was called."""
        return bool(self._providers)

    def register_custom_ops_library(self, library_path: str) -> None:
        """Not available: libraries of onnxruntime operators are bound to onnxruntime's own interface."""
        raise _errors.NotImplementedOp(
            f"{library_path}: custom operator libraries of onnxruntime cannot be loaded; see linnet.register_operator"
        )

    def _to_core(self) -> _core.SessionOptions:
        core = _core.SessionOptions()
        if self.intra_op_num_threads < 0:
            raise _errors.InvalidArgument(f"intra_op_num_threads is {self.intra_op_num_threads}; use 0 (all) or more")
        core.threads = int(self.intra_op_num_threads)
        core.optimization = min(int(self.graph_optimization_level), 2)
        core.exact = self._config.get("linnet.exact", "0") == "1"
        core.stop_after = int(self._config.get("linnet.stop_after", "-1"))
        core.profile = bool(self.enable_profiling)
        core.dimensions = dict(self._dimensions)
        core.denotations = dict(self._denotations)
        for name, value in self._initializers.items():
            core.set_initializer(name, value)
        core.optimized_model = str(self.optimized_model_filepath)
        for name in _LIMITS:
            value = int(getattr(self, name))
            if not 0 <= value < 2**63:
                raise _errors.InvalidArgument(f"{name} is {value}")
            setattr(core, name, value)
        return core


class RunOptions(_Checked):
    """Options of one run.

    Setting ``terminate`` to True from another thread stops the run (`Cancelled` is raised there);
    ``time_limit_ms`` does so by itself.
    """

    _types: ClassVar[dict[str, tuple[type, ...]]] = {
        **dict.fromkeys(("time_limit_ms", "log_severity_level", "log_verbosity_level"), _INT),
        **dict.fromkeys(("terminate", "only_execute_path_to_fetches"), (bool, np.bool_, int)),
        "logid": _TEXT,
    }

    def __init__(self) -> None:
        self._terminate = _core.Flag()
        self.time_limit_ms: int = 0
        self.log_severity_level: int = -1
        self.log_verbosity_level: int = 0
        self.logid: str = ""
        self.only_execute_path_to_fetches: bool = False
        self._config: dict[str, str] = {}

    @property
    def terminate(self) -> bool:
        """True stops the runs that were given these options, and those that will be."""
        return self._terminate.get()

    @terminate.setter
    def terminate(self, value: bool) -> None:
        self._terminate.set(bool(value))

    def add_run_config_entry(self, config_key: str, config_value: str) -> None:
        """Kept; no entry has an effect today."""
        self._config[str(config_key)] = str(config_value)

    def get_run_config_entry(self, config_key: str) -> str:
        """The value of an entry that was set; raises otherwise."""
        try:
            return self._config[config_key]
        except KeyError:
            raise _errors.RuntimeException(f"no config entry {config_key!r} has been set") from None
