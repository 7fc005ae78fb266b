"""Zoo models exported from Keras with tf2onnx."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras
    import tensorflow
    import tf2onnx

from benchmarks.zoo import SEED, feeds

OPSET = 18
# tf2onnx reports every pass of its optimiser that gives up (it then leaves Transposes in place, as users get them too).
logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)


def randomise(model: Any, seed: int = SEED) -> None:
    """Give every weight a value like a trained one: He-scaled kernels, norms near one, biases near zero."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for weight in layer.weights:
            shape = tuple(weight.shape)
            noise = rng.standard_normal(shape).astype(np.float32)
            if isinstance(layer, keras.layers.BatchNormalization):
                if weight.name in ("gamma", "beta"):
                    weight.assign(noise * 0.15 + (weight.name == "gamma"))
            elif isinstance(layer, keras.layers.Normalization):
                continue
            elif len(shape) > 1:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                fan_in = math.prod(shape[:2]) if depthwise else math.prod(shape[:-1])
                gain = 1.0 if isinstance(layer, keras.layers.Dense) else 2.0
                weight.assign(noise * math.sqrt(gain / fan_in))
            else:
                weight.assign(noise * 0.05)


def embed_normalization(model: Any) -> None:
    """Make the constants of Normalization layers part of the graph: tf2onnx would leave them as extra inputs."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 1, 1, 3)
            layer.variance = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 1, 1, 3) ** 2


def settle_batch_norm(model: Any, name: str, size: int = 16) -> None:
    """Set the moving statistics of every batch norm from one batch of ``size`` random pictures."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = 0.0  # the moving statistics become the batch's
    model(feeds(name, np.random.default_rng(SEED), batch=size)["input"], training=True)


def small_cnn() -> Any:
    """28x28x1 -> 32 filters of 3x3 -> max pool -> dense 128 -> dense 10, softmax."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def application(name: str) -> Callable[[], Any]:
    return lambda: getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))


BUILDERS: dict[str, Callable[[], Any]] = {
    "keras_mobilenetv2": application("MobileNetV2"),
    "keras_mobilenetv3_small": application("MobileNetV3Small"),
    "keras_resnet50": application("ResNet50"),
    "keras_efficientnet_b0": application("EfficientNetB0"),
    "keras_small_cnn": small_cnn,
}


def versions() -> dict[str, str]:
    return {"tensorflow": tensorflow.__version__, "keras": keras.__version__, "tf2onnx": tf2onnx.__version__}


def settled(name: str) -> tuple[Any, Any]:
    """The zoo model ``name`` with its weights, the same ones each time, as a function, and that function's input."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    model = BUILDERS[name]()
    randomise(model)
    embed_normalization(model)
    settle_batch_norm(model, name)
    spec = tensorflow.TensorSpec((None, *model.input_shape[1:]), tensorflow.float32, name="input")
    return tensorflow.function(lambda x: model(x, training=False), input_signature=[spec]), spec


def build_tflite(name: str, path: Path) -> None:
    """Build the zoo model ``name`` and write it to ``path`` for LiteRT, with a free batch axis."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function, _ = settled(name)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    path.write_bytes(tensorflow.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())


def build(name: str, path: Path) -> None:
    """Build the zoo model ``name`` and write it to ``path`` as ONNX, opset 18, with a free batch axis."""
    function, spec = settled(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf2onnx.convert.from_function(function, input_signature=[spec], opset=OPSET, output_path=str(path))
