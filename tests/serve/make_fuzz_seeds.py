"""Writes seeds for the fuzz targets of the server's codecs: ``python tests/serve/make_fuzz_seeds.py FOLDER``.

Each wire has a folder of its own inside that one. What the first byte of the REST wires' seeds means is said in
cpp/tools/fuzz_serve.cpp.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codec_messages import OIP_TYPES, message, random_array

TYPED = ["bool", "int", "int64", "uint", "uint64", "fp32", "fp64", "bytes"]


def oip() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for datatype, dtype in OIP_TYPES.items():
        made = message("inference.ModelInferRequest")
        made.model_name, made.model_version, made.id = "m", "1", "id"
        array = random_array(rng, dtype, (2, 2))
        made.inputs.add(name="x", datatype=datatype, shape=[2, 2])
        raw = b"\x02\0\0\0ab" * 4 if datatype == "BYTES" else array.tobytes()
        made.raw_input_contents.append(raw)
        made.outputs.add(name="x").parameters["classification"].int64_param = 2
        made.parameters["priority"].uint64_param = 1
        made.parameters["timeout"].int64_param = 1000
        made.parameters["sequence_id"].string_param = "s"
        yield made.SerializeToString()
    for datatype, field in zip(
        ["BOOL", "INT8", "INT64", "UINT16", "UINT64", "FP32", "FP64", "BYTES"], TYPED, strict=True
    ):
        made = message("inference.ModelInferRequest")
        tensor = made.inputs.add(name="x", datatype=datatype, shape=[2])
        getattr(tensor.contents, f"{field}_contents").extend([b"ab", b""] if field == "bytes" else [1, 0])
        yield made.SerializeToString()


def tensorflow() -> Iterator[bytes]:
    values = {
        1: ("float_val", [1.5]),
        2: ("double_val", [1.5, 2.5]),
        3: ("int_val", [-1, 2]),
        4: ("int_val", [1]),
        6: ("int_val", [-1]),
        7: ("string_val", [b"a", b"bc"]),
        8: ("scomplex_val", [1, 2, 3, 4]),
        9: ("int64_val", [-5]),
        10: ("bool_val", [True, False]),
        14: ("half_val", [16256]),
        18: ("dcomplex_val", [1, 2]),
        19: ("half_val", [15360]),
        22: ("uint32_val", [7]),
        23: ("uint64_val", [2**63]),
        30: ("int_val", [15]),
    }
    for number, (field, list_) in values.items():
        made = message("tensorflow.serving.PredictRequest")
        made.model_spec.name, made.model_spec.signature_name = "m", "serving_default"
        made.model_spec.version.value = 3
        tensor = made.inputs["x"]
        tensor.dtype = number
        tensor.tensor_shape.dim.add(size=2)
        tensor.tensor_shape.dim.add(size=3)
        getattr(tensor, field).extend(list_)
        made.output_filter.append("x")
        yield made.SerializeToString()
    made = message("tensorflow.serving.PredictRequest")
    made.model_spec.version_label = "stable"
    made.inputs["x"].dtype = 24
    made.inputs["x"].float8_val = b"\x01\x02"
    made.inputs["x"].tensor_shape.dim.add(size=2)
    made.inputs["y"].dtype = 1
    made.inputs["y"].tensor_content = np.arange(6, dtype=np.float32).tobytes()
    made.inputs["y"].tensor_shape.dim.add(size=6)
    yield made.SerializeToString()


def rest_v2() -> Iterator[bytes]:
    def tensor(name: str, datatype: str, shape: list[int], data: object, **parameters: object) -> dict[str, object]:
        return {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters, "data": data}

    yield json.dumps(
        {
            "id": "1",
            "parameters": {"priority": 1, "timeout": 5, "sequence_id": "s", "binary_data_output": False, "x": 1.5},
            "inputs": [
                tensor("f", "FP32", [2, 2], [[1, 2.5], [-3e2, float("nan")]]),
                tensor("i", "INT64", [3], [-(2**63), 0, 2**63 - 1]),
                tensor("s", "BYTES", [2], ['aü😀"\\\n', ""]),
                tensor("b", "BOOL", [1], [True]),
                tensor("h", "FP16", [2], [0.5, -65504]),
                tensor("u", "UINT64", [1], [2**64 - 1]),
                tensor("e", "INT8", [0, 3], []),
            ],
            "outputs": [{"name": "f", "parameters": {"classification": 2}}],
        }
    ).encode()


def rest_v2_binary() -> Iterator[tuple[int, bytes]]:
    head: dict[str, object] = {
        "inputs": [
            {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
            {"name": "s", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head)
    text += " " * (-len(text) % 4)
    yield len(text) // 4, text.encode() + np.arange(2, dtype=np.float32).tobytes() + b"\x02\0\0\0ab"


def rest_v1() -> Iterator[bytes]:
    yield b'{"signature_name": "serving_default", "instances": [{"f": [1.0, 2], "i": 3}, {"f": [0.1, -2e5], "i": -4}]}'
    yield b'{"instances": [{"s": "text", "b": true}, {"s": {"b64": "aGVsbG8="}, "b": false}]}'
    yield b'{"inputs": {"f": [[1, 2], [3, NaN]], "i": [1], "h": 2.5, "s": [["\\u00e9\\ud83d\\ude00"]]}}'
    yield b'{"instances": [1.0, 2.0, Infinity, -Infinity, 1e-45]}'
    yield b'{"instances": [{"b64": "AAEC"}, "x"]}'
    yield b'{"inputs": [[[1], [2]], [[3], [4]]], "extra": [{"a": null}, "b", true]}'


def main() -> None:
    seeds = {
        "oip": list(oip()),
        "tensorflow": list(tensorflow()),
        "rest_v2": [b"\0" + body for body in rest_v2()] + [bytes([size]) + body for size, body in rest_v2_binary()],
        "rest_v1": [bytes([which]) + body for body in rest_v1() for which in range(6)],
    }
    for wire, bodies in seeds.items():
        folder = Path(sys.argv[1]) / wire
        folder.mkdir(parents=True, exist_ok=True)
        for i, body in enumerate(bodies):
            (folder / f"seed{i:03}").write_bytes(body)
        print(f"{len(bodies)} seeds in {folder}")


if __name__ == "__main__":
    main()
