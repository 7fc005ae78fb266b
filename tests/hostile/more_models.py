"""One-node models, with inputs, of operators that the ONNX suite's node tests do not have: most of com.microsoft and
ai.onnx.ml, some of ai.onnx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

R = np.random.default_rng(0)
MS, ML = "com.microsoft", "ai.onnx.ml"


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return R.standard_normal(shape).astype(np.float32)


def u8(*shape: int) -> np.ndarray[Any, Any]:
    return R.integers(0, 256, shape).astype(np.uint8)


def i8(*shape: int) -> np.ndarray[Any, Any]:
    return R.integers(-128, 128, shape).astype(np.int8)


def i32(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int32)


def i64(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def text(*values: str) -> np.ndarray[Any, Any]:
    return np.array(values, object)


S, Z = np.float32(0.1), np.uint8(128)
Q = [S, Z]
TREE = {
    "nodes_treeids": [0, 0, 0, 1],
    "nodes_nodeids": [0, 1, 2, 0],
    "nodes_featureids": [1, 0, 0, 0],
    "nodes_truenodeids": [1, 0, 0, 0],
    "nodes_falsenodeids": [2, 0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, 0.0, 0.0],
    "nodes_missing_value_tracks_true": [1, 0, 0, 0],
    "nodes_hitrates": [1.0, 1.0, 1.0, 1.0],
}
# operator, domain, inputs (None: left out), number of outputs, attributes
OPS: list[tuple[str, str, list[Any], int, dict[str, Any]]] = [
    ("Attention", MS, [f32(2, 3, 8), f32(8, 24), f32(24), i32(3, 2)], 1, {"num_heads": 2, "unidirectional": 1}),
    ("Attention", MS, [f32(1, 3, 8), f32(8, 24), f32(24), None, f32(2, 1, 2, 2, 4)], 2,
     {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 8], "scale": 0.5}),
    ("MultiHeadAttention", MS, [f32(2, 3, 8), f32(2, 4, 8), f32(2, 4, 8), f32(24), i32(4, 2)], 1, {"num_heads": 2}),
    ("MultiHeadAttention", MS, [f32(1, 1, 8)] * 3 + [None, None, None, f32(1, 2, 3, 4), f32(1, 2, 3, 4)], 3,
     {"num_heads": 2, "mask_filter_value": -1e4}),
    ("QAttention", MS, [u8(1, 3, 8), i8(8, 24), f32(24), S, S, None, Z, np.int8(0)], 1, {"num_heads": 2}),
    ("RotaryEmbedding", MS, [f32(1, 3, 8), i64(0), f32(16, 2), f32(16, 2)], 1, {"num_heads": 2, "interleaved": 1}),
    ("SkipLayerNormalization", MS, [f32(1, 3, 8), f32(1, 3, 8), f32(8), f32(8), f32(8)], 4, {"epsilon": 1e-3}),
    ("SkipSimplifiedLayerNormalization", MS, [f32(1, 3, 8), f32(1, 3, 8), f32(8), f32(8)], 4, {"epsilon": 1e-3}),
    ("EmbedLayerNormalization", MS,
     [np.zeros((1, 3), np.int32), np.zeros((1, 3), np.int32), f32(5, 8), f32(6, 8), f32(2, 8), f32(8), f32(8),
      np.ones((1, 3), np.int32)], 2, {"epsilon": 1e-3}),
    ("MatMulNBits", MS, [f32(2, 32), u8(3, 2, 8), f32(6), u8(3)], 1, {"K": 32, "N": 3, "bits": 4, "block_size": 16}),
    ("DynamicQuantizeMatMul", MS, [f32(2, 8), u8(8, 4), S, Z], 1, {}),
    ("MatMulIntegerToFloat", MS, [u8(2, 8), u8(8, 4), S, S, Z, Z, f32(4)], 1, {}),
    ("FusedMatMul", MS, [f32(2, 3, 4), f32(2, 3, 5)], 1, {"transA": 1, "alpha": 0.5}),
    ("FusedGemm", MS, [f32(2, 3), f32(3, 4), f32(4)], 1, {"activation": "LeakyRelu", "activation_alpha": 0.1}),
    ("FusedConv", MS, [f32(1, 4, 6, 6), f32(8, 2, 3, 3), f32(8), f32(1, 8, 4, 4)], 1,
     {"group": 2, "activation": "HardSigmoid", "activation_params": [0.2, 0.5], "strides": [1, 1], "pads": [0] * 4}),
    ("QGemm", MS, [u8(2, 3), S, Z, u8(3, 4), S, Z, i32(1, 2, 3, 4), S, Z], 1, {"alpha": 1.0, "transB": 0}),
    ("QLinearAdd", MS, [u8(2, 3), *Q, u8(2, 3), *Q, *Q], 1, {}),
    ("QLinearMul", MS, [u8(2, 3), *Q, u8(3), *Q, *Q], 1, {}),
    ("QLinearSigmoid", MS, [u8(2, 3), *Q, *Q], 1, {}),
    ("QLinearLeakyRelu", MS, [u8(2, 3), *Q, *Q], 1, {"alpha": 0.1}),
    ("QLinearSoftmax", MS, [u8(2, 3), *Q, *Q], 1, {"axis": 1, "opset": 13}),
    ("QLinearConcat", MS, [*Q, u8(2, 3), *Q, u8(2, 1), *Q], 1, {"axis": 1}),
    ("QLinearWhere", MS, [np.ones((2, 3), bool), u8(2, 3), *Q, u8(3), *Q, *Q], 1, {}),
    ("QLinearAveragePool", MS, [u8(1, 2, 5, 5), *Q, *Q], 1,
     {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1}),
    ("QLinearGlobalAveragePool", MS, [u8(1, 2, 5, 5), *Q, *Q], 1, {"channels_last": 0}),
    ("QuantizeLinear", MS, [f32(2, 3), f32(3), u8(3)], 1, {"axis": 1}),
    ("DequantizeLinear", MS, [u8(2, 3), f32(3), u8(3)], 1, {"axis": 1}),
    ("BiasGelu", MS, [f32(2, 3), f32(3)], 1, {}),
    ("FastGelu", MS, [f32(2, 3), f32(3)], 1, {}),
    ("QuickGelu", MS, [f32(2, 3)], 1, {"alpha": 1.7}),
    ("Gelu", MS, [f32(2, 3)], 1, {}),
    ("CDist", MS, [f32(2, 3), f32(4, 3)], 1, {"metric": "euclidean"}),
    ("GridSample", MS, [f32(1, 2, 4, 4), f32(1, 3, 3, 2)], 1, {"mode": "bicubic", "padding_mode": "reflection"}),
    ("Tokenizer", MS, [text("ab cd", "e")], 1,
     {"mark": 1, "separators": [" "], "pad_value": "#", "mincharnum": 1}),
    ("DynamicQuantizeLSTM", MS, [f32(3, 1, 4), i8(1, 4, 8), i8(1, 2, 8), f32(1, 16), None, None, None, None,
                                 f32(1), np.zeros(1, np.int8), f32(1), np.zeros(1, np.int8)], 3, {"hidden_size": 2}),
    ("Scaler", ML, [f32(2, 3)], 1, {"offset": [0.5, 0.1, 0.2], "scale": [2.0, 1.0, 3.0]}),
    ("Normalizer", ML, [f32(2, 3)], 1, {"norm": "L2"}),
    ("Imputer", ML, [f32(2, 3)], 1, {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": 0.0}),
    ("Binarizer", ML, [f32(2, 3)], 1, {"threshold": 0.5}),
    ("OneHotEncoder", ML, [i64(1, 2, 5)], 1, {"cats_int64s": [1, 2, 3], "zeros": 1}),
    ("LabelEncoder", ML, [text("a", "b")], 1,
     {"keys_strings": ["a", "b"], "values_int64s": [1, 2], "default_int64": -1}),
    ("FeatureVectorizer", ML, [f32(2, 3), f32(2, 1)], 1, {"inputdimensions": [3, 1]}),
    ("ArrayFeatureExtractor", ML, [f32(2, 3), i64(0, 2)], 1, {}),
    ("LinearRegressor", ML, [f32(2, 3)], 1,
     {"coefficients": [1.0, 2.0, 3.0], "intercepts": [0.5], "targets": 1, "post_transform": "NONE"}),
    ("LinearClassifier", ML, [f32(2, 3)], 2,
     {"coefficients": [1.0] * 6, "intercepts": [0.5, 0.1], "classlabels_ints": [4, 5], "multi_class": 0,
      "post_transform": "SOFTMAX"}),
    ("SVMClassifier", ML, [f32(2, 3)], 2,
     {"coefficients": [1.0, -1.0], "kernel_params": [0.5, 0.0, 3.0], "kernel_type": "RBF", "rho": [0.1],
      "prob_a": [1.0], "prob_b": [0.5], "support_vectors": [1.0] * 6, "vectors_per_class": [1, 1],
      "classlabels_ints": [0, 1]}),
    ("SVMRegressor", ML, [f32(2, 3)], 1,
     {"coefficients": [1.0, -1.0], "kernel_params": [0.5, 0.0, 3.0], "kernel_type": "POLY", "rho": [0.1],
      "support_vectors": [1.0] * 6, "n_supports": 2, "one_class": 0}),
    ("TreeEnsembleRegressor", ML, [f32(2, 3)], 1,
     TREE | {"target_treeids": [0, 0, 1], "target_nodeids": [1, 2, 0], "target_ids": [0, 0, 0],
             "target_weights": [1.0, 2.0, 3.0], "n_targets": 1, "base_values": [0.5]}),
    ("TreeEnsembleClassifier", ML, [f32(2, 3)], 2,
     TREE | {"class_treeids": [0, 0, 1], "class_nodeids": [1, 2, 0], "class_ids": [0, 1, 2],
             "class_weights": [1.0, 2.0, 3.0], "classlabels_strings": ["a", "b", "c"]}),
    ("ZipMap", ML, [f32(2, 3)], 1, {"classlabels_int64s": [1, 2, 3]}),
    ("CategoryMapper", ML, [i64(1, 2)], 1, {"cats_int64s": [1, 2], "cats_strings": ["a", "b"], "default_int64": -1}),
    ("MaxRoiPool", "", [f32(2, 3, 4, 5), np.array([[0, 0, 1, 2, 3], [1, -1, 2, 9, 3]], np.float32)], 1,
     {"pooled_shape": [2, 3], "spatial_scale": 0.5}),
    ("GlobalLpPool", "", [f32(2, 3, 4, 5)], 1, {"p": 3}),
    ("Multinomial", "", [f32(2, 5)], 1, {"sample_size": 3, "dtype": 7, "seed": 1.0}),
    ("RandomNormal", "", [], 1, {"shape": [2, 3], "dtype": 1, "mean": 1.0, "scale": 2.0, "seed": 1.0}),
    ("RandomNormalLike", "", [f32(2, 3)], 1, {"dtype": 11, "mean": 1.0, "scale": 2.0, "seed": 1.0}),
    ("RandomUniform", "", [], 1, {"shape": [2, 3], "dtype": 1, "low": 1.0, "high": 2.0, "seed": 1.0}),
    ("RandomUniformLike", "", [f32(2, 3)], 1, {"dtype": 11, "low": 1.0, "high": 2.0, "seed": 1.0}),
    ("SimplifiedLayerNormalization", "", [f32(2, 3, 4), f32(4)], 1, {"axis": -1, "epsilon": 1e-5}),
]  # fmt: skip


def models() -> Iterator[tuple[str, onnx.ModelProto, list[Any]]]:
    """Name, model and the inputs in its order."""
    for number, (op, domain, inputs, outputs, attributes) in enumerate(OPS):
        arrays = [None if x is None else np.asarray(x) for x in inputs]
        names = ["" if x is None else f"x{i}" for i, x in enumerate(arrays)]
        results = [f"y{i}" for i in range(outputs)]
        node = helper.make_node(op, names, results, "made", domain=domain, **attributes)
        ports = [
            helper.make_tensor_value_info(
                name, TensorProto.STRING if x.dtype == object else helper.np_dtype_to_tensor_dtype(x.dtype), x.shape
            )
            for name, x in zip(names, arrays, strict=True)
            if x is not None
        ]
        graph = helper.make_graph([node], "g", ports, [onnx.ValueInfoProto(name=r) for r in results])
        opsets = [helper.make_opsetid("", 18)]
        if domain:
            opsets.append(helper.make_opsetid(domain, 3 if domain == ML else 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        yield f"{op}_{number}", model, [x for x in arrays if x is not None]
