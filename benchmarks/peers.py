"""The runtimes that the benchmarks compare: for each a function that imports it and returns how it opens a model.

To add one, write one function and one row in ``PEERS``. Each runs in float32 on exactly the threads asked for, one
request at a time, and otherwise as it is by default. Inputs and outputs are numpy arrays.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _measure

FAILED = "failed.json"
"""In the folder of converted models: why a file is missing, by its name."""


@dataclass(frozen=True)
class Peer:
    """A runtime: ``package`` as pip knows it, ``module`` as Python does, ``name`` as ``_measure.runtime`` does."""

    name: str
    module: str
    package: str

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        if self.name == "linnet":  # a developer's build is not installed
            return str(importlib.import_module(self.module).__version__)
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return ""

    @functools.cached_property
    def open(self) -> _measure.Open:
        return _measure.runtime(self.name)


def converted(path: Path, suffix: str) -> Path:
    """The file made of the ONNX file ``path`` for a runtime that does not read ONNX (see benchmarks.zoo.convert)."""
    file = path.parent / "peers" / (path.stem + suffix)
    if not file.exists():
        index = file.parent / FAILED
        reasons: dict[str, str] = json.loads(index.read_text()) if index.exists() else {}
        reason = reasons.get(file.name, "not there; make it with  python -m benchmarks.zoo.convert")
        raise FileNotFoundError(f"{file.name}: {reason}")
    return file


def openvino() -> _measure.Open:
    """OpenVINO reads ONNX. By itself it would use bfloat16 where the CPU has it. Inputs and outputs are not copied."""
    import openvino

    core = openvino.Core()

    def open_model(path: Path, threads: int) -> _measure.Call:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        model = core.compile_model(core.read_model(path), "CPU", options)
        request, count = model.create_infer_request(), len(model.outputs)

        def run(feeds: _measure.Feeds) -> list[Any]:
            results = request.infer(feeds, share_inputs=True, share_outputs=True)
            return [results[i] for i in range(count)]

        return run

    return open_model


def mnn() -> _measure.Open:
    """MNN, by its Module interface, which runs control flow too. It holds 64-bit integers in 32 bits."""
    import MNN
    from MNN import expr

    def open_model(path: Path, threads: int) -> _measure.Call:
        file = converted(path, ".mnn")
        options = {"backend": "CPU", "precision": "high", "numThread": threads}
        manager = MNN.nn.create_runtime_manager((options,))
        module = MNN.nn.load_module_from_file(str(file), [], [], runtime_manager=manager)
        inputs: list[Any] = []
        shapes: list[tuple[int, ...]] = []

        def run(feeds: _measure.Feeds) -> list[Any]:
            arrays = [a if a.dtype.kind == "f" else a.astype(np.int32) for a in feeds.values()]
            if shapes != [a.shape for a in arrays]:
                shapes[:] = [a.shape for a in arrays]
                types = [expr.float if a.dtype.kind == "f" else expr.int for a in arrays]
                inputs[:] = [expr.placeholder(list(s), expr.NCHW, t) for s, t in zip(shapes, types, strict=True)]
            for value, array in zip(inputs, arrays, strict=True):
                value.write(array)
            results = module.forward(inputs)
            plain = [expr.convert(y, expr.NCHW) if y.data_format == expr.NC4HW4 else y for y in results]
            return [y.read() for y in plain]

        return run

    return open_model


def ncnn() -> _measure.Open:
    """ncnn. Its models have no batch axis; inputs and outputs are called in0, in1 ... and out0, out1 ..."""
    import ncnn

    def open_model(path: Path, threads: int) -> _measure.Call:
        file = converted(path, ".ncnn.param")
        net = ncnn.Net()
        net.opt.num_threads = threads
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        if net.load_param(str(file)) or net.load_model(str(file.with_suffix(".bin"))):
            raise RuntimeError(f"ncnn does not read {file.name}")
        names, results = net.input_names(), net.output_names()

        def run(feeds: _measure.Feeds) -> list[Any]:
            extractor = net.create_extractor()
            for name, array in zip(names, feeds.values(), strict=True):
                if array.shape[0] != 1:
                    raise ValueError("ncnn runs one item at a time")
                extractor.input(name, ncnn.Mat(array[0] if array.dtype.kind == "f" else array[0].astype(np.int32)))
            return [np.array(extractor.extract(name)[1]) for name in results]

        return run

    return open_model


def litert() -> _measure.Open:
    """LiteRT (TensorFlow Lite) with its XNNPACK delegate, which it takes by default. Converters narrow token ids."""
    from ai_edge_litert.interpreter import Interpreter

    def open_model(path: Path, threads: int) -> _measure.Call:
        interpreter = Interpreter(str(converted(path, ".tflite")), num_threads=threads)
        inputs = interpreter.get_input_details()
        outputs = [d["index"] for d in interpreter.get_output_details()]
        shapes = [tuple(d["shape"]) for d in inputs]
        interpreter.allocate_tensors()

        def run(feeds: _measure.Feeds) -> list[Any]:
            arrays = list(feeds.values())
            if shapes != [a.shape for a in arrays]:
                shapes[:] = [a.shape for a in arrays]
                for detail, shape in zip(inputs, shapes, strict=True):
                    interpreter.resize_tensor_input(detail["index"], shape, strict=True)
                interpreter.allocate_tensors()
            for detail, array in zip(inputs, arrays, strict=True):
                interpreter.set_tensor(detail["index"], array.astype(detail["dtype"], copy=False))
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in outputs]

        return run

    return open_model


PEERS: dict[str, Peer] = {
    "linnet": Peer("linnet", "linnet", "linnet"),
    # Its workers spin after a run, which the rest between bursts waits out.
    "onnxruntime": Peer("onnxruntime", "onnxruntime", "onnxruntime"),
    "openvino": Peer(f"{__name__}:openvino", "openvino", "openvino"),
    "mnn": Peer(f"{__name__}:mnn", "MNN", "MNN"),
    "ncnn": Peer(f"{__name__}:ncnn", "ncnn", "ncnn"),
    "litert": Peer(f"{__name__}:litert", "ai_edge_litert", "ai-edge-litert"),
}
