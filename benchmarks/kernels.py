"""Kernels alone, as a share of the machine's peak: ``python -m benchmarks.kernels``.

For every instruction set this CPU has: ``linnet-kernel-test --bench`` times each kernel at the shapes of well-known
models in turns with the multiply-add peak, those in int8 with the peak of the instructions that multiply bytes. A share
is the best rate over the best peak of the same moments, on one core, with operands where the last call left them in the
caches. Convolutions count the taps in the padding, too.

Two things need a whole runtime, on one thread. M = 1: a MatMul of a vector with a constant matrix that fits into L2,
against onnxruntime, less what each runtime takes for a Relu of as many elements. Winograd: a 3x3 convolution as Linnet
does it over the same with ``linnet.exact``, which keeps to the direct kernel; each is the difference of a chain of five
and one, without what happens at the ends of a model.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
VECTOR_BY_MATRIX = ((256, 512), (384, 384), (512, 256))
CONVOLUTIONS = ((56, 64), (28, 128), (14, 256), (7, 512))
CHAIN = 5

Result = dict[str, Any]


def native(binary: Path, isa: str | None) -> list[Result]:
    """What ``linnet-kernel-test --bench`` measures, with the shares worked out."""
    command = [str(binary), "--bench", "--json", *(["--isa", isa] if isa else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip() or f"{binary} ended with {done.returncode}")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for result in results:
        if "flops" in result:
            result["rate"] = result["flops"] / result["seconds"]
            if result["peak"]:  # the generic table has no instruction for bytes
                result["share"] = result["rate"] / result["peak"]
    return results


def one_node(nodes: list[Any], shape: tuple[int, ...], constants: dict[str, Any]) -> Any:
    """A model of ``nodes`` from x [shape] to y."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "kernel",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def call(runtime: str, model: Any, exact: bool = False) -> Callable[[], object]:
    """A run of ``model`` on one thread with random numbers."""
    api = importlib.import_module(runtime)
    options = api.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:
        options.add_session_config_entry("linnet.exact", "1")
    session = api.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    return functools.partial(session.run, None, feeds)


def vector_by_matrix(k: int, n: int) -> dict[str, Any]:
    """The models of one M = 1 product: the product and, with as many elements out, next to nothing."""
    from onnx import helper

    weights = np.random.default_rng(1).standard_normal((k, n)).astype(np.float32)
    return {
        "product": one_node([helper.make_node("MatMul", ["x", "w"], ["y"])], (1, k), {"w": weights}),
        "nothing": one_node([helper.make_node("Relu", ["x"], ["y"])], (1, n), {}),
    }


def chain(side: int, channels: int, length: int) -> Any:
    """``length`` convolutions of 3x3 and Relus, each with its own weights."""
    from onnx import helper

    rng = np.random.default_rng(length)
    names = ["x", *(f"x{i}" for i in range(1, length)), "y"]
    weights, nodes = {}, []
    for i in range(length):
        weights[f"w{i}"] = (rng.standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [names[i], f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [names[i + 1]]))
    return one_node(nodes, (1, channels, side, side), weights)


def in_sessions(seconds: float) -> list[Result]:
    """What needs whole runtimes, with the instruction set that LINNET_ISA names."""
    from linnet import _core, _measure

    isa = _core.isa()
    results: list[Result] = []
    if importlib.util.find_spec("onnxruntime"):
        for k, n in VECTOR_BY_MATRIX:
            models = vector_by_matrix(k, n)
            calls = {f"{r} {what}": call(r, m) for what, m in models.items() for r in ("linnet", "onnxruntime")}
            p50 = {name: float(np.median(t)) for name, t in _measure.interleaved(calls, seconds=seconds).items()}
            own, other = (p50[f"{r} product"] - p50[f"{r} nothing"] for r in ("linnet", "onnxruntime"))
            results.append(
                {"isa": isa, "group": "vector x matrix", "shape": f"1x{n}x{k}", "times": p50, "gain": other / own}
            )
    for side, channels in CONVOLUTIONS:
        calls = {
            f"{how} {length}": call("linnet", chain(side, channels, length), exact=how == "direct")
            for how in ("chosen", "direct")
            for length in (1, CHAIN)
        }
        p50 = {name: float(np.median(t)) for name, t in _measure.interleaved(calls, seconds=seconds).items()}
        chosen, direct = (p50[f"{how} {CHAIN}"] - p50[f"{how} 1"] for how in ("chosen", "direct"))
        shape = f"{side}x{channels}x{channels}x3x1"
        results.append({"isa": isa, "group": "winograd", "shape": shape, "times": p50, "gain": direct / chosen})
    return results


def in_a_process(isa: str, seconds: float) -> list[Result]:
    """``in_sessions`` in a process of its own: a process keeps to the kernels of one instruction set."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        code = f"import json, benchmarks.kernels as k; json.dump(k.in_sessions({seconds}), open({file.name!r}, 'w'))"
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        environment = {**os.environ, "LINNET_ISA": isa, "PYTHONPATH": path}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        results: list[Result] = json.load(file)
    return results


def is_int8(result: Result) -> bool:
    """Whether the peak is that of multiplying bytes."""
    return str(result["group"]).startswith("int8")


def text(results: Iterable[Result]) -> str:
    """All results by instruction set and group, each group with its mean share."""
    lines = []
    results = list(results)
    for isa in dict.fromkeys(r["isa"] for r in results):
        own = [r for r in results if r["isa"] == isa]
        peaks = [
            max((r["peak"] for r in own if "peak" in r and is_int8(r) == int8), default=0) for int8 in (False, True)
        ]
        lines.append(f"{isa}: peak {1e-9 * peaks[0]:.1f} GFLOP/s, in int8 {1e-9 * peaks[1]:.1f} Gop/s")
        for group in dict.fromkeys(r["group"] for r in own):
            members = [r for r in own if r["group"] == group]
            shares = [r["share"] for r in members if "share" in r and group != "map"]
            mean = f": {100 * float(np.mean(shares)):.0f} % of the peak on average" if shares else ""
            lines.append(f"\n  {group}{mean}")
            for r in members:
                if group == "read":
                    lines.append(f"    from {r['shape'] + ' kB':<20} {1e-9 * r['bytes_per_second']:7.1f} GB/s")
                elif group == "map":
                    lines.append(f"    {r['shape']:<25} {1e-9 * r['rate']:7.2f} G elements/s")
                elif "gain" in r:
                    against = "the direct kernel" if group == "winograd" else "onnxruntime"
                    against = "the dense kernel" if group.startswith("sparse") else against
                    lines.append(f"    {r['shape']:<25} {r['gain']:7.2f} x {against}'s speed")
                else:
                    share = f" {100 * r['share']:5.1f} %" if "share" in r else ""
                    unit = "Gop/s" if is_int8(r) else "GFLOP/s"
                    lines.append(f"    {r['shape']:<25} {1e-9 * r['rate']:7.1f} {unit}{share}")
        lines.append("")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = Path(os.environ.get("LINNET_BUILD", ROOT / "build"))
    parser.add_argument("--isa", help="only this instruction set, such as avx2 (default: all that the CPU has)")
    parser.add_argument("--binary", type=Path, default=build / "linnet-kernel-test", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each session is measured (default: 0.5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="also draw the roofline (needs matplotlib)")
    args = parser.parse_args(argv)
    if not args.binary.exists():
        parser.error(f"{args.binary} is not there: build it with  ninja -C build linnet-kernel-test")
    results = native(args.binary, args.isa)
    for isa in dict.fromkeys(r["isa"] for r in results):
        results += in_a_process(isa, args.seconds)
    print(text(results), end="")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.picture:
        from benchmarks import picture

        picture.roofline(results, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
