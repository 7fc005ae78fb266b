"""Make the files that MNN, ncnn and LiteRT read from the zoo that is there: ``python -m benchmarks.zoo.convert``.

They go to ``peers/`` in the zoo's folder. Each converter may live in an environment of its own: run the command once in
each, and each makes what it can.

  mnn     from the ONNX file, with  pip install MNN onnx
  ncnn    from the ONNX file, with  pip install pnnx onnx onnxruntime
  litert  from the model itself, with  pip install litert-torch transformers onnx  for the PyTorch models and
          pip install tensorflow tf2onnx onnx  for the Keras ones

A model that a converter cannot convert is noted with the reason, which the benchmarks then show.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx

from benchmarks.peers import FAILED
from benchmarks.zoo import ZOO, feeds, folder


def without_nan_guards(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out ``Where(IsNaN(x), constant, x)``, PyTorch's guard of rows that are masked everywhere: these inputs have
    none, and the converters do not know IsNaN."""
    graph = model.graph
    tested = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "IsNaN"}
    passed = {
        node.output[0]: node.input[2]
        for node in graph.node
        if node.op_type == "Where" and tested.get(node.input[0]) == node.input[2]
    }
    kept = [node for node in graph.node if node.output[0] not in passed]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = passed.get(name, name)
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(node for node in kept if node.op_type != "IsNaN" or node.output[0] in used)
    return model


def last_lines(text: str) -> str:
    """The end of what a converter said, without colours."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-400:]


def mnn(name: str, work: Path) -> list[Path]:
    onnx.save(without_nan_guards(onnx.load(folder() / ZOO[name].file)), work / "model.onnx")
    # Not by the package's own command, which installs a further package and reports its use over the network.
    script = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
    options = ["-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn", "--bizCode", "zoo"]
    options += ["--useOriginRNNImpl"] if ZOO[name].family == "rnn" else []
    done = subprocess.run([sys.executable, "-c", script, *options], cwd=work, capture_output=True, text=True)
    if not (work / "model.mnn").exists():
        raise RuntimeError(last_lines(done.stdout + done.stderr) or f"the converter ended with {done.returncode}")
    return [work / "model.mnn"]


def ncnn(name: str, work: Path) -> list[Path]:
    import onnxruntime
    import pnnx

    # For one shape, and with what onnxruntime folds at its basic level, such as Pad into Conv.
    model, example = without_nan_guards(onnx.load(folder() / ZOO[name].file)), feeds(name)
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, example[value.name].shape, strict=True):
            dim.dim_value = size
    onnx.save(model, work / "plain.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(work / "model.onnx")
    onnxruntime.InferenceSession(str(work / "plain.onnx"), options, providers=["CPUExecutionProvider"])
    short = {"float32": "f32", "int64": "i64"}
    shapes = ",".join(f"{list(a.shape)}{short[a.dtype.name]}".replace(" ", "") for a in example.values())
    command = [pnnx.EXEC_PATH, "model.onnx", "fp16=0", f"inputshape={shapes}"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    made = [work / "model.ncnn.param", work / "model.ncnn.bin"]
    if not made[0].exists():
        raise RuntimeError(last_lines(done.stdout + done.stderr) or f"pnnx ended with {done.returncode}")
    return made


def litert(name: str, work: Path) -> list[Path]:
    builder = importlib.import_module(f"benchmarks.zoo.{ZOO[name].source}")
    builder.build_tflite(name, work / "model.tflite")
    return [work / "model.tflite"]


CONVERTERS: dict[str, tuple[Callable[[str, Path], list[Path]], str]] = {
    "mnn": (mnn, ".mnn"),
    "ncnn": (ncnn, ".ncnn.param"),
    "litert": (litert, ".tflite"),
}
NEEDS = {"mnn": ["_tools"], "ncnn": ["pnnx", "onnxruntime"]}


def missing(kind: str, name: str) -> list[str]:
    """What is not installed of what converting ``name`` needs."""
    source = {"pytorch": ["litert_torch", "transformers"], "keras": ["tensorflow", "tf2onnx"]}[ZOO[name].source]
    return [module for module in NEEDS.get(kind, source) if importlib.util.find_spec(module) is None]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="which models (default: all that are there)")
    parser.add_argument(
        "--to", default=",".join(CONVERTERS), help=f"for which runtimes (default: {','.join(CONVERTERS)})"
    )
    parser.add_argument("--force", action="store_true", help="convert again what is there already")
    args = parser.parse_args(argv)
    kinds = args.to.split(",")
    for given, known in ((args.names, ZOO), (kinds, CONVERTERS)):
        unknown = [n for n in given if n not in known]
        if unknown:
            parser.error(f"not known: {', '.join(unknown)}; there are {', '.join(known)}")
    out = folder() / "peers"
    out.mkdir(parents=True, exist_ok=True)
    index = out / FAILED
    failed: dict[str, str] = json.loads(index.read_text()) if index.exists() else {}
    lacking: dict[str, list[str]] = {}
    for name in args.names or [n for n in ZOO if (folder() / ZOO[n].file).exists()]:
        for kind in kinds:
            convert, suffix = CONVERTERS[kind]
            target = out / (name + suffix)
            if not args.force and (target.exists() or target.name in failed):
                print(f"{target.name}: {'could not be made' if target.name in failed else 'there already'}", flush=True)
                continue
            if absent := missing(kind, name):
                lacking[f"{kind} from {ZOO[name].source}" if kind == "litert" else kind] = absent
                continue
            start = time.perf_counter()
            failed.pop(target.name, None)
            try:
                with tempfile.TemporaryDirectory() as work:
                    for made in convert(name, Path(work)):
                        shutil.move(made, out / made.name.replace("model", name, 1))
                print(f"{target.name}: made in {time.perf_counter() - start:.0f} s", flush=True)
            except Exception as error:  # one model that cannot be converted must not stop the others
                failed[target.name] = f"cannot be converted: {type(error).__name__}: {error}"[:500]
                print(f"{target.name}: {failed[target.name]}", flush=True)
            index.write_text(json.dumps(failed, indent=1, sort_keys=True) + "\n")
    for kind, modules in lacking.items():
        print(f"{kind}: left out, {', '.join(modules)} not installed (see --help)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
