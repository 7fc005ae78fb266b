"""Models that onnxruntime has saved optimised, or that its transformer tools have fused, run as they are."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.zoo import ZOO, feeds
from onnx import TensorProto, helper, numpy_helper

import linnet
from model_checks import assert_same
from test_zoo import zoo_file

LEVELS = {
    level: getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}") for level in ("BASIC", "EXTENDED", "ALL")
}
DOMAIN = "com.microsoft"


def saved(model: Path | bytes, level: str, to: Path) -> tuple[Any, Counter[str]]:
    """onnxruntime's session of the model, saved in `to`, and how often which operator of its own is in it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(to)
    options.log_severity_level = 4
    given = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return session, own_operators(to)


def own_operators(path: Path) -> Counter[str]:
    return Counter(n.op_type for n in onnx.load(path, load_external_data=False).graph.node if "microsoft" in n.domain)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "efficientnet_b0", "minilm", "gpt2", "vit_small", "lstm"])
def test_zoo_models(name: str, level: str, tmp_path: Path) -> None:
    if name not in ZOO:
        pytest.skip(f"the zoo has no {name}")
    given, path = feeds(name), tmp_path / "saved.onnx"
    session, _ = saved(zoo_file(name), level, path)
    assert_same(linnet.InferenceSession(path).run(None, given), session.run(None, given), name)


# ---- networks of a few layers, for which no file is needed -----------------------------------------------------------


def network() -> bytes:
    """Convolutions with activations and a residual, pools and a dense layer: [n, 3, 16, 16] -> [n, 10]."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> Any:
        size = np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array((rng.standard_normal(shape) / size).astype(np.float32), name)

    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Relu", ["c0"], ["r0"]),
        node("MaxPool", ["r0"], ["m0"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        node("Conv", ["m0", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1] * 4, group=8),
        node("LeakyRelu", ["c1"], ["l1"], alpha=0.1),
        node("Conv", ["l1", "w2", "b2"], ["c2"], kernel_shape=[1, 1]),
        node("Add", ["c2", "m0"], ["s2"]),
        node("Relu", ["s2"], ["r2"]),
        node("AveragePool", ["r2"], ["a2"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Sigmoid", ["a2"], ["g2"]),
        node("Mul", ["a2", "g2"], ["q2"]),
        node("Concat", ["q2", "a2"], ["j2"], axis=1),
        node("GlobalAveragePool", ["j2"], ["p2"]),
        node("Flatten", ["p2"], ["f2"]),
        node("Gemm", ["f2", "w3", "b3"], ["d3"], transB=1),
        node("Softmax", ["d3"], ["y"], axis=-1),
    ]
    shapes = {"w0": (8, 3, 3, 3), "w1": (8, 1, 3, 3), "w2": (8, 8, 1, 1), "w3": (10, 16)}
    biases = [weights(f"b{i}", s[0], 1) for i, s in enumerate(shapes.values())]
    for bias in biases:
        del bias.dims[1]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [weights(n, *s) for n, s in shapes.items()] + biases,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def pictures(count: int = 3) -> Any:
    return np.random.default_rng(1).standard_normal((count, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_a_float_network(level: str, tmp_path: Path) -> None:
    path, x = tmp_path / "saved.onnx", {"x": pictures()}
    session, operators = saved(network(), level, path)
    assert level == "BASIC" or operators["FusedConv"] > 0
    assert_same(linnet.InferenceSession(path).run(None, x), session.run(None, x), level)


def test_what_is_laid_out_for_one_machine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.onnx"
    _, operators = saved(network(), "ALL", path)
    if not operators["Conv"]:
        pytest.skip("onnxruntime keeps the layout on this machine")
    with pytest.raises(linnet.LinnetError, match=r"com\.microsoft\.nchwc.*ORT_ENABLE_EXTENDED or lower"):
        linnet.InferenceSession(path)


@pytest.fixture
def quiet() -> Iterator[None]:
    """onnxruntime's tools give advice that is not wanted here."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(("activations", "weights"), [("QUInt8", "QUInt8"), ("QUInt8", "QInt8"), ("QInt8", "QInt8")])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_quantized_network(
    form: str, level: str, activations: str, weights: str, per_channel: bool, tmp_path: Path
) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            self.left = [{"x": pictures(8)}]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    (tmp_path / "float.onnx").write_bytes(network())
    quantization.quantize_static(
        str(tmp_path / "float.onnx"),
        str(tmp_path / "int8.onnx"),
        Reader(),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType[weights],
        per_channel=per_channel,
        extra_options={"ActivationSymmetric": activations == "QInt8"},
    )
    path, x = tmp_path / "saved.onnx", {"x": pictures()}
    session, operators = saved(tmp_path / "int8.onnx", level, path)
    assert operators["QLinearGlobalAveragePool"] and operators["QGemm"], operators
    assert level != "ALL" or operators["QLinearConv"], operators
    # A value on the boundary of two steps may fall to either side, in any layer.
    (got,), (want,) = linnet.InferenceSession(path).run(None, x), session.run(None, x)
    assert np.abs(got - want).max() <= 3 / 255


# ---- transformers ----------------------------------------------------------------------------------------------------

VOCABULARY, WIDTH, HEADS, LENGTH = 50, 32, 4, 9


def encoder(to: Path) -> None:
    """A small BERT as PyTorch's exporter writes it."""
    torch = pytest.importorskip("torch")
    nn, size = torch.nn, WIDTH // HEADS

    class Layer(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
            self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
            self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

        def split(self, x: Any) -> Any:
            return x.view(x.size(0), x.size(1), HEADS, size).permute(0, 2, 1, 3)

        def forward(self, x: Any, mask: Any) -> Any:
            q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
            scores = torch.matmul(q, k.transpose(-1, -2)) / size**0.5 + mask
            y = torch.matmul(nn.functional.softmax(scores, -1), v).permute(0, 2, 1, 3).contiguous()
            x = self.first(self.o(y.view(y.size(0), y.size(1), WIDTH)) + x)
            return self.second(self.down(nn.functional.gelu(self.up(x))) + x)

    class Encoder(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(64, WIDTH)
            self.norm, self.layers = nn.LayerNorm(WIDTH), nn.ModuleList(Layer() for _ in range(2))

        def forward(self, ids: Any, mask: Any) -> Any:
            added = (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
            x = self.norm(self.words(ids) + self.places(torch.arange(ids.size(1))[None]))
            for layer in self.layers:
                x = layer(x, added)
            return x

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Encoder().eval(),
            tuple(torch.tensor(v) for v in sentences().values()),
            str(to),
            input_names=["ids", "mask"],
            output_names=["y"],
            dynamic_axes={n: {0: "batch", 1: "sequence"} for n in ("ids", "mask", "y")},
            dynamo=False,
            opset_version=14,
        )


def sentences(batch: int = 3) -> dict[str, Any]:
    """Words of a batch with padding on the left, on the right and without any."""
    ids = np.random.default_rng(2).integers(0, VOCABULARY, (batch, LENGTH))
    mask = np.ones_like(ids)
    mask[0, :3] = 0
    if batch > 1:
        mask[1, 6:] = 0
    return {"ids": ids, "mask": mask}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("options", "operators"),
    [
        ({}, {"Attention": 2, "SkipLayerNormalization": 4, "BiasGelu": 2}),
        ({"use_multi_head_attention": True}, {"MultiHeadAttention": 2}),
        ({"attention_mask_format": 0}, {"Attention": 2}),
        ({"enable_gelu_approximation": True}, {"FastGelu": 2}),
    ],
    ids=str,
)
def test_a_fused_encoder(options: dict[str, Any], operators: dict[str, int], tmp_path: Path) -> None:
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    plain, path = tmp_path / "plain.onnx", tmp_path / "fused.onnx"
    encoder(plain)
    chosen = optimizer.FusionOptions("bert")
    for name, value in options.items():
        setattr(chosen, name, value)
    model = optimizer.optimize_model(
        str(plain), "bert", num_heads=HEADS, hidden_size=WIDTH, optimization_options=chosen, opt_level=0
    )
    model.save_model_to_file(str(path))
    assert own_operators(path) >= Counter(operators)
    for batch in (1, 3):
        given = sentences(batch)
        want = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, given)
        assert_same(linnet.InferenceSession(path).run(None, given), want, "fused")
        # The tool keeps no more of the mask than lengths: padding on the left is lost.
        exported = linnet.InferenceSession(plain).run(None, given)[0]
        if "enable_gelu_approximation" not in options:
            assert_same(want[0][1:], exported[1:], "as exported")


def decoder() -> bytes:
    """Two layers as the exporters of generative models write them: grouped heads in one cache of LENGTH rows, narrow
    weights. Inputs ids [n, s], lengths [n] and total (int32), and the cache; outputs logits and the cache."""
    rng = np.random.default_rng(3)
    size, groups = 16, 2
    width = HEADS * size
    initialisers, nodes = [], []

    def constant(name: str, value: Any) -> str:
        initialisers.append(numpy_helper.from_array(value, name))
        return name

    def normal(name: str, *shape: int) -> str:
        return constant(name, (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))

    def ones(name: str) -> str:
        return constant(name, (1 + 0.1 * rng.standard_normal(width)).astype(np.float32))

    def narrow(x: str, name: str, k: int, n: int) -> str:
        blocks = k // 32
        b = constant(f"{name}_b", rng.integers(0, 256, (n, blocks, 16)).astype(np.uint8))
        s = constant(f"{name}_s", (rng.random((n, blocks)) * 0.03).astype(np.float32))
        own("MatMulNBits", [x, b, s], [name], K=k, N=n, bits=4, block_size=32)
        return name

    def own(op: str, inputs: list[str], outputs: list[str], **more: Any) -> None:
        nodes.append(helper.make_node(op, inputs, outputs, domain=DOMAIN, **more))

    turn = rng.random((LENGTH, size // 2)).astype(np.float32) * 6
    constant("cos", np.cos(turn))
    constant("sin", np.sin(turn))
    table = constant("table", rng.integers(0, 256, (VOCABULARY, width // 2)).astype(np.uint8))
    scales = constant("scales", (rng.random((VOCABULARY, width // 32)) * 0.3).astype(np.float32))
    own("GatherBlockQuantized", [table, "ids", scales], ["x0"], bits=4, block_size=32, quantize_axis=1)
    nodes.append(helper.make_node("SimplifiedLayerNormalization", ["x0", ones("g0")], ["h0"], epsilon=1e-5))
    x, h, caches = "x0", "h0", []
    for i in range(2):
        qkv = narrow(h, f"qkv{i}", width, width + 2 * groups * size)
        cache = [f"{kind}{i}" for kind in "kv"]
        caches += cache
        inputs = [qkv, "", "", *cache, "lengths", "total", "cos", "sin"]
        outputs = [f"a{i}", *(f"new_{c}" for c in cache)]
        own("GroupQueryAttention", inputs, outputs, num_heads=HEADS, kv_num_heads=groups, do_rotary=1)
        nodes.append(helper.make_node("MatMul", [f"a{i}", normal(f"o{i}", width, width)], [f"p{i}"]))
        inputs = [x, f"p{i}", ones(f"g{i + 1}")]
        own("SkipSimplifiedLayerNormalization", inputs, [f"h{i + 1}", "", "", f"x{i + 1}"], epsilon=1e-5)
        x, h = f"x{i + 1}", f"h{i + 1}"
    nodes.append(helper.make_node("MatMul", [h, normal("head", width, VOCABULARY)], ["logits"]))
    shape = ["n", groups, LENGTH, size]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "decoder",
        [value("ids", TensorProto.INT64, ["n", "s"])]
        + [value("lengths", TensorProto.INT32, ["n"]), value("total", TensorProto.INT32, [])]
        + [value(c, TensorProto.FLOAT, shape) for c in caches],
        [value("logits", TensorProto.FLOAT, ["n", "s", VOCABULARY])]
        + [value(f"new_{c}", TensorProto.FLOAT, shape) for c in caches],
        initialisers,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def test_a_decoder_step_by_step() -> None:
    """A batch of prompts of unequal lengths, padded on the right, and then a token at a time."""
    data = decoder()
    session = linnet.InferenceSession(data)
    reference = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(4)
    counts, prompt = np.array([3, 5, 1]), rng.integers(0, VOCABULARY, (3, 5))
    given = {"ids": prompt, "lengths": (counts - 1).astype(np.int32), "total": np.array(5, np.int32)}
    given |= {f"{kind}{i}": np.zeros((3, 2, LENGTH, 16), np.float32) for i in range(2) for kind in "kv"}
    texts = [list(row[:n]) for row, n in zip(prompt, counts, strict=True)]
    names = [output.name for output in session.get_outputs()]
    for step in range(4):
        got, want = (dict(zip(names, s.run(None, given), strict=True)) for s in (session, reference))
        last = counts - 1 if step == 0 else np.zeros(3, int)
        logits = got["logits"][np.arange(3), last]
        assert_same(logits, want["logits"][np.arange(3), last], f"step {step}", 1e-4)
        for b, text in enumerate(texts):  # by itself, all at once
            alone = {"ids": np.array([text]), "lengths": np.array([len(text) - 1], np.int32)}
            alone |= {"total": np.array(len(text), np.int32)} | {n: v[:1] * 0 for n, v in given.items() if n[0] in "kv"}
            assert_same(session.run(["logits"], alone)[0][0, -1], logits[b], f"step {step}, text {b}", 1e-4)
        chosen = logits.argmax(-1)
        for text, word in zip(texts, chosen, strict=True):
            text.append(int(word))
        counts = counts + 1
        given = {"ids": chosen[:, None], "lengths": (counts - 1).astype(np.int32)}
        given |= {"total": np.array(counts.max(), np.int32)}
        given |= {n.removeprefix("new_"): v for n, v in got.items() if n != "logits"}
