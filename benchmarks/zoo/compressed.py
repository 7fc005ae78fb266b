"""Quantized and pruned forms of the zoo: ``python -m benchmarks.zoo.compressed [names...]``, after ``benchmarks.zoo``.

The quantized files are made by onnxruntime's own quantizer (``pip install onnxruntime onnx sympy``), so that both
runtimes are given what a user of onnxruntime would have. They go to ``compressed/`` in the zoo's folder:

* ``<model>_int8.onnx``: static QDQ, int8 weights per channel, uint8 activations, min-max calibration on 8 inputs;
* ``<model>_dynamic.onnx``: int8 weights, activations quantized when they are known (MatMulInteger);
* ``gpt2_q4.onnx``: 4-bit weights in blocks of 32 (MatMulNBits);
* ``lstm_int8.onnx``, ``gru_int8.onnx``: int8 weights, a scale per gate's row, behind DequantizeLinear;
* ``mobilenetv2_4x1.onnx``: 80 % of the 1x1 layers' weights zero, in blocks of 4 output channels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.zoo import ZOO, Array, Feeds, feeds, folder

CALIBRATION_INPUTS = 8
BLOCK = 4
SPARSITY = 0.8


@dataclass(frozen=True)
class Form:
    """A compressed zoo model: ``base`` is the zoo's name of the float one."""

    name: str
    base: str
    make: Callable[[Form, Path, Path], None]

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"


class Calibration:
    """The zoo's inputs for one model, as onnxruntime's quantizer wants to read them."""

    def __init__(self, base: str) -> None:
        self.left = [feeds(base, np.random.default_rng(i)) for i in range(CALIBRATION_INPUTS)]

    def get_next(self) -> Feeds | None:
        return self.left.pop() if self.left else None


def static_int8(form: Form, source: Path, out: Path) -> None:
    """Batch normalisations are folded first, as onnxruntime's documentation advises."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as temporary:
        prepared = Path(temporary) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared))
        quantize_static(
            str(prepared),
            str(out),
            Calibration(form.base),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


def dynamic_int8(form: Form, source: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as temporary:
        prepared = Path(temporary) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(str(prepared), str(out), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])


def four_bits(form: Form, source: Path, out: Path) -> None:
    """Gemm and MatMul of a constant alike; the tied embedding's product with its transpose too."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(source)
    gemm_to_matmul(model)
    quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True)
    quantizer.process()
    onnx.save(quantizer.model.model, out)


def gemm_to_matmul(model: onnx.ModelProto) -> None:
    """Gemm and MatMul of a constant's transpose become MatMul of that transpose, the only form the quantizer takes."""
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    transposed = {
        n.output[0]: n.input[0]
        for n in graph.node
        if n.op_type == "Transpose" and n.input[0] in constants and len(constants[n.input[0]].dims) == 2
    }
    nodes = []
    for node in graph.node:
        flipped = [a.i for a in node.attribute if a.name == "transB"] == [1]
        if node.op_type == "MatMul" and node.input[1] in transposed:
            node.input[1], flipped = transposed[node.input[1]], True
        elif node.op_type != "Gemm" or node.input[1] not in constants:
            nodes.append(node)
            continue
        weights = numpy_helper.to_array(constants[node.input[1]])
        name = f"{node.name or node.output[0]}_weights"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weights.T if flipped else weights), name))
        bias = list(node.input[2:])
        product = f"{node.output[0]}_product" if bias else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [product], f"{node.name}_matmul"))
        if bias:
            nodes.append(helper.make_node("Add", [product, bias[0]], [node.output[0]], f"{node.name}_bias"))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def recurrent_int8(form: Form, source: Path, out: Path) -> None:
    """W and R, [directions, gates * hidden, inputs], with one scale per row; axis 1 has no form for two directions."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as temporary:  # the exporter computes W and R from what it stores
        prepared = Path(temporary) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared))
        model = onnx.load(prepared)
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type in ("LSTM", "GRU"):
            for i in (1, 2):
                weights = numpy_helper.to_array(constants[node.input[i]])
                if weights.shape[0] != 1:
                    raise ValueError(f"{node.name} has two directions")
                scale = np.abs(weights[0]).max(axis=1).astype(np.float32) / 127
                codes = np.round(weights / scale[None, :, None]).astype(np.int8)
                name = node.input[i]
                graph.initializer.append(numpy_helper.from_array(codes, f"{name}_codes"))
                graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
                real = f"{name}_real"
                nodes.append(helper.make_node("DequantizeLinear", [f"{name}_codes", f"{name}_scale"], [real], axis=1))
                node.input[i] = real
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.save(model, out)


def block_sparse(form: Form, source: Path, out: Path) -> None:
    """Of each 1x1 layer the blocks of 4 output channels by 1 input channel with the smallest norms become zero."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        weights: Array = numpy_helper.to_array(tensor)
        if weights.ndim != 4 or weights.shape[2:] != (1, 1) or weights.shape[0] % BLOCK or weights.shape[1] == 1:
            continue
        blocks = weights.reshape(weights.shape[0] // BLOCK, BLOCK, weights.shape[1]).copy()
        norms = np.square(blocks).sum(axis=1)
        blocks *= (norms > np.quantile(norms, SPARSITY))[:, None, :]
        tensor.CopyFrom(numpy_helper.from_array(blocks.reshape(weights.shape), tensor.name))
    onnx.save(model, out)


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        *(Form(f"{n}_int8", n, static_int8) for n in ("mobilenetv2", "resnet18", "resnet50", "efficientnet_b0")),
        *(Form(f"{n}_dynamic", n, dynamic_int8) for n in ("minilm", "vit_small")),
        Form("gpt2_q4", "gpt2", four_bits),
        *(Form(f"{n}_int8", n, recurrent_int8) for n in ("lstm", "gru")),
        Form("mobilenetv2_4x1", "mobilenetv2", block_sparse),
    )
}


def form_path(name: str) -> Path:
    return folder() / "compressed" / FORMS[name].file


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo.compressed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"which files (default: all): {', '.join(FORMS)}")
    parser.add_argument("--force", action="store_true", help="make again what is there already")
    args = parser.parse_args(argv)
    unknown = [n for n in args.names if n not in FORMS]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(FORMS)}")
    failed = 0
    names = args.names or list(FORMS)
    for number, name in enumerate(names, 1):
        form, path = FORMS[name], form_path(name)
        source = folder() / ZOO[form.base].file
        label = f"[{number}/{len(names)}] {name}"
        if path.exists() and not args.force:
            print(f"{label}: there already", flush=True)
            continue
        if not source.exists():
            print(f"{label}: {source} is missing; make it with  python -m benchmarks.zoo {form.base}", file=sys.stderr)
            failed += 1
            continue
        print(f"{label}: making ...", end="", flush=True)
        start = time.perf_counter()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.onnx")
        try:
            form.make(form, source, part)
            onnx.checker.check_model(str(part))
        except Exception as error:  # one that cannot be made must not stop the others
            print(f" failed: {type(error).__name__}: {error}"[:2000], flush=True)
            part.unlink(missing_ok=True)
            failed += 1
            continue
        part.replace(path)
        sizes = f"{source.stat().st_size / 1e6:.1f} -> {path.stat().st_size / 1e6:.1f} MB"
        print(f" {sizes} in {time.perf_counter() - start:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
