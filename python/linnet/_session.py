"""InferenceSession, compatible with onnxruntime's, and `load`, the short way."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from linnet import _core, _errors
from linnet._options import RunOptions, SessionOptions
from linnet._values import IOBinding, OrtValue, OrtValueVector

PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True)
class NodeArg:
    """An input or output of a model.

    ``type`` reads like ``"tensor(float)"``; ``shape`` holds a number, a symbol's name or None for each dimension.
    """

    name: str
    type: str
    shape: list[int | str | None]

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """numpy's dtype of the elements; None where numpy has none of its own."""
        names = {"float": "float32", "double": "float64", "string": "object"}
        inner = self.type.rsplit("(", 1)[-1].rstrip(")")
        try:
            return np.dtype(names.get(inner, inner))
        except TypeError:
            return None


@dataclass(frozen=True)
class ModelMetadata:
    """What the file says about itself."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    graph_description: str
    version: int
    custom_metadata_map: dict[str, str]


def _node_arg(port: Mapping[str, Any]) -> NodeArg:
    kind = f"tensor({port['onnx_dtype']})"
    if port["map_key"]:
        kind = f"map({port['map_key']},{kind})"
    if port["kind"] == "sequence":
        kind = f"seq({kind})"
    if port["optional"]:
        kind = f"optional({kind})"
    return NodeArg(port["name"], kind, list(port["shape"] or []))


class InferenceSession:
    """A loaded model.

    Args:
        path_or_bytes: the path of an ONNX file, or its contents.
        sess_options: see `SessionOptions`.
        providers: accepted for compatibility; there is one, ``CPUExecutionProvider``, and others are passed over.
        provider_options: accepted for compatibility.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplementedOp: with the file's and the node's name.
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise TypeError(f"sess_options takes SessionOptions, not {type(sess_options).__name__}")
        self._sess_options = sess_options._copied() if sess_options is not None else SessionOptions()
        self._profiling = bool(self._sess_options.enable_profiling)
        core_options = self._sess_options._to_core()
        if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
            self._core = _core.Session.from_bytes(bytes(path_or_bytes), core_options)
            self._model_path: str | None = None
            self._model_bytes: bytes | bytearray | memoryview | None = path_or_bytes
        else:
            self._model_path = os.fspath(path_or_bytes)
            self._model_bytes = None
            self._core = _core.Session(self._model_path, core_options)
        self._inputs_meta = [_node_arg(p) for p in self._core.inputs()]
        self._outputs_meta = [_node_arg(p) for p in self._core.outputs()]
        self._overridable_meta = [_node_arg(p) for p in self._core.overridable()]
        self._started_ns = time.time_ns()

    @property
    def _sess(self) -> InferenceSession:
        return self

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """Runs the model; safe to call from several threads at once, and the GIL is released meanwhile.

        Args:
            output_names: which outputs, in which order; None or empty for all.
            input_feed: an array (or list, or `OrtValue`) for each input's name.
            run_options: see `RunOptions`.

        Returns:
            One numpy array per output (a list for a sequence, a dict for a map, None for an absent optional).

        Raises:
            InvalidArgument: an input is missing, unknown, or has the wrong dtype or shape.
        """
        return self._run(input_feed, output_names, run_options, None)

    def _run(
        self,
        feeds: Mapping[str, Any],
        wanted: Sequence[str] | None,
        options: RunOptions | None,
        destinations: dict[str, Any] | None,
    ) -> list[Any]:
        if type(feeds) is not dict:
            if not isinstance(feeds, Mapping):
                raise _errors.InvalidArgument(
                    f"inputs are given as {{name: array}}, not as {type(feeds).__name__}; "
                    f"the model's inputs are {', '.join(i.name for i in self._inputs_meta)}"
                )
            feeds = dict(feeds)
        if isinstance(wanted, str):
            raise TypeError(f"output_names takes a list of names, not the text {wanted!r}")
        if options is None:
            return self._core.run(feeds, wanted, None, 0, destinations)
        if not isinstance(options, RunOptions):
            raise TypeError(f"run_options takes RunOptions, not {type(options).__name__}")
        return self._core.run(feeds, wanted, options._terminate, int(options.time_limit_ms), destinations)

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], object],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Starts a run and returns at once.

        ``callback(results, user_data, error)`` is called by another thread when the run has ended: ``error`` is an
        empty text, or says what went wrong, and then ``results`` is empty.
        """

        def work() -> None:
            results: list[Any] = []
            error = ""
            try:
                results = self.run(output_names, feeds, run_options)
            except Exception as problem:
                error = str(problem) or type(problem).__name__
            callback(results, user_data, error)

        feeds = dict(input_feed)
        threading.Thread(target=work, name="linnet.run_async").start()

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """As `run`, with `OrtValue` in and out."""
        return [OrtValue(v) for v in self.run(output_names, input_dict_ort_values, run_options)]

    def run_with_ortvaluevector(
        self,
        run_options: RunOptions | None,
        feed_names: Sequence[str],
        feeds: Sequence[OrtValue],
        fetch_names: Sequence[str],
        fetches: OrtValueVector,
        fetch_devices: Sequence[Any] = (),
    ) -> None:
        """As `run_with_ort_values`; the results are appended to `fetches`."""
        fetches.extend(self.run_with_ort_values(fetch_names, dict(zip(feed_names, feeds, strict=True)), run_options))

    def get_tuning_results(self) -> list[Any]:
        """Always empty: nothing is tuned by trial."""
        return []

    def set_tuning_results(self, results: Sequence[Any], *, error_on_invalid: bool = False) -> None:
        """Accepted for compatibility."""

    def io_binding(self) -> IOBinding:
        """A new, empty binding for `run_with_iobinding`."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Runs with bound inputs and outputs; results are in ``iobinding.get_outputs()``."""
        wanted = list(iobinding._outputs)
        if not wanted:
            raise _errors.InvalidArgument(
                f"no output is bound; the model's outputs are {', '.join(o.name for o in self._outputs_meta)}"
            )
        destinations = {name: array for name, array in iobinding._outputs.items() if array is not None}
        results = self._run(iobinding._inputs, wanted, run_options, destinations)
        iobinding._results = dict(zip(wanted, results, strict=True))

    def get_inputs(self) -> list[NodeArg]:
        """The inputs, in the model's order."""
        return list(self._inputs_meta)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return list(self._outputs_meta)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Initializers that the model also lists as inputs: `run` may be given others for them."""
        return list(self._overridable_meta)

    def get_modelmeta(self) -> ModelMetadata:
        """What the file says about itself."""
        info = self._core.info()
        return ModelMetadata(
            producer_name=info["producer_name"],
            graph_name=info["graph_name"],
            domain=info["domain"],
            description=info["description"],
            graph_description=info["graph_description"],
            version=info["version"],
            custom_metadata_map=dict(info["metadata"]),
        )

    def get_session_options(self) -> SessionOptions:
        """The options the session was made with."""
        return self._sess_options

    def get_providers(self) -> list[str]:
        """``["CPUExecutionProvider"]``."""
        return [PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """No options."""
        return {PROVIDER: {}}

    def set_providers(self, providers: Sequence[Any] | None = None, provider_options: Any = None) -> None:
        """Accepted for compatibility."""

    def enable_fallback(self) -> None:
        """Accepted for compatibility."""

    def disable_fallback(self) -> None:
        """Accepted for compatibility."""

    def get_profiling_start_time_ns(self) -> int:
        """When the session was made, in nanoseconds since the epoch."""
        return self._started_ns

    def end_profiling(self) -> str:
        """Writes the recorded steps as a trace that Perfetto opens, and returns the file's path.

        An empty text, and no file, when the session was made without ``SessionOptions.enable_profiling``, and from the
        second call on.
        """
        if not self._profiling:
            return ""
        self._profiling = False
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        path = Path(f"{self._sess_options.profile_file_prefix}_{stamp}.json".replace("__", "_"))
        path.write_text(self._core.trace_json(), encoding="utf-8")
        return str(path)

    def profile(self) -> list[dict[str, Any]]:
        """Recorded steps: name, op, start_us, duration_us, run, shapes, macs and bytes of each.

        Needs ``SessionOptions.enable_profiling``; otherwise empty.
        """
        return self._core.profile()

    def dump(self, stage: str = "lower") -> str:
        """The graph as text after ``"build"``, ``"simplify"`` or ``"lower"`` (what runs)."""
        return self._core.dump(stage)


class Model:
    """A model as a function: ``y = model(x)``. Made by `load`.

    Takes arrays in the order of ``inputs``, or by keyword; lists and numbers are converted to the input's dtype. Gives
    the output, or a tuple when there are several.
    """

    def __init__(self, session: InferenceSession) -> None:
        self.session = session
        self.inputs = session.get_inputs()
        self.outputs = session.get_outputs()

    def __call__(self, *args: npt.ArrayLike, **kwargs: npt.ArrayLike) -> Any:
        names = [i.name for i in self.inputs]
        if len(args) > len(names):
            raise _errors.InvalidArgument(f"{len(args)} inputs given; the model takes {len(names)}: {', '.join(names)}")
        feeds: dict[str, Any] = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name in feeds:
                raise _errors.InvalidArgument(f"input {name!r} is given twice")
            feeds[name] = value
        results = self.session.run(None, feeds)
        return results[0] if len(results) == 1 else tuple(results)

    def __repr__(self) -> str:
        ins = "\n".join(f"  in   {i.name}: {i.type} {i.shape}" for i in self.inputs)
        outs = "\n".join(f"  out  {o.name}: {o.type} {o.shape}" for o in self.outputs)
        return f"<linnet.Model {self.session._model_path or 'from bytes'}\n{ins}\n{outs}>"


def load(path: str | bytes | os.PathLike[str], threads: int | None = None) -> Model:
    """Loads a model as a function.

    Args:
        path: the path of an ONNX file, or its contents.
        threads: how many threads a call uses; None for all CPUs that the process may use.

    >>> import linnet
    >>> model = linnet.load("model.onnx")     # doctest: +SKIP
    >>> y = model(x)                          # doctest: +SKIP
    """
    options = SessionOptions()
    options.intra_op_num_threads = threads or 0
    return Model(InferenceSession(path, options))
