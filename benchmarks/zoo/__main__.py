"""``python -m benchmarks.zoo [--out DIR] [--force] [names...]``: build the zoo, cached."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.zoo import ZOO, Entry, feeds, folder

PIP = {
    "pytorch": "pip install torch transformers onnxscript",
    "keras": "pip install tensorflow tf2onnx",
}
PIP_ALL = "pip install -r benchmarks/requirements-zoo.txt"


def describe(entry: Entry, model: onnx.ModelProto, versions: dict[str, str]) -> dict[str, Any]:
    """What ``zoo.json`` says of one model: inputs, outputs, opsets, ops and the versions that made it."""
    np_name = {code: np.dtype(t.np_dtype).name for code, t in onnx._mapping.TENSOR_TYPE_MAP.items()}

    def values(infos: Any) -> list[dict[str, Any]]:
        rows = []
        for info in infos:
            tensor = info.type.tensor_type
            shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
            rows.append({"name": info.name, "dtype": np_name[tensor.elem_type], "shape": shape})
        return rows

    ops = Counter(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in model.graph.node)
    return {
        "family": entry.family,
        "source": entry.source,
        "sizes": entry.sizes,
        "inputs": values(model.graph.input),
        "outputs": values(model.graph.output),
        "parameters": int(sum(np.prod(t.dims) for t in model.graph.initializer)),
        "opsets": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "ops": dict(sorted(ops.items())),
        "made_with": versions,
    }


def forget_origin(path: Path) -> None:
    """Take out the metadata in which exporters note the source lines and folders a node came from."""
    model = onnx.load(path)
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, graph, model):
        del part.metadata_props[:]
    onnx.save(model, path)


def check(entry: Entry, path: Path) -> str:
    """Check ``path`` with onnx.checker and run it once in onnxruntime when that is installed; say what came out."""
    onnx.checker.check_model(str(path), full_check=True)
    try:
        import onnxruntime  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return "checked (not run: onnxruntime is not installed)"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    out = session.run(None, feeds(entry.name))[0]
    spread = float(np.std(out))
    if not np.isfinite(out).all() or spread < 1e-4:
        raise RuntimeError(f"{entry.name}: the output is constant or not finite (deviation {spread:.3g})")
    return f"{'x'.join(map(str, out.shape))}, mean {np.mean(out):.3f}, deviation {spread:.3f}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which models (default: all): {', '.join(ZOO)}")
    parser.add_argument("--out", type=Path, default=folder(), help="where the files go (default: $LINNET_ZOO or zoo/)")
    parser.add_argument("--force", action="store_true", help="build again what is there already")
    args = parser.parse_args(argv)
    unknown = [n for n in args.names if n not in ZOO]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(ZOO)}")
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    index_file = out / "zoo.json"
    index: dict[str, Any] = json.loads(index_file.read_text()) if index_file.exists() else {}
    names = args.names or list(ZOO)
    failed: dict[str, str] = {}
    missing: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        entry, path = ZOO[name], out / ZOO[name].file
        label = f"[{number}/{len(names)}] {name}"
        if path.exists() and name in index and not args.force:
            print(f"{label}: there already", flush=True)
            continue
        if entry.source in missing:
            continue
        print(f"{label}: building with {entry.source} ...", end="", flush=True)
        start = time.perf_counter()
        try:
            builder = importlib.import_module(f"benchmarks.zoo.{entry.source}")
        except ImportError as error:
            missing[entry.source] = str(error)
            print(f" cannot: {error}", flush=True)
            continue
        part = path.with_suffix(".part.onnx")
        try:
            builder.build(name, part)
            forget_origin(part)
            result = check(entry, part)
            index[name] = describe(entry, onnx.load(part), builder.versions())
        except Exception as error:  # one model that cannot be built must not stop the others
            failed[name] = f"{type(error).__name__}: {error}"
            part.unlink(missing_ok=True)
            print(" failed", flush=True)
            continue
        part.replace(path)
        index_file.write_text(json.dumps({n: index[n] for n in ZOO if n in index}, indent=1) + "\n")
        seconds, size = time.perf_counter() - start, path.stat().st_size / 1e6
        print(f" {result}; {size:.1f} MB in {seconds:.0f} s", flush=True)
    print(f"\n{sum((out / e.file).exists() for e in ZOO.values())} of {len(ZOO)} models are in {out}")
    for name, reason in failed.items():
        print(f"\n{name} could not be built: {reason[:2000]}", file=sys.stderr)
    for source, reason in missing.items():
        print(f"\nThe {source} models were left out ({reason}). To build them: {PIP[source]}", file=sys.stderr)
    if missing:
        print(f"All that the zoo needs: {PIP_ALL}", file=sys.stderr)
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
