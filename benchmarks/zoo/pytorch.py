"""Zoo models exported from PyTorch and from transformers' configurations."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from benchmarks.zoo import GPT2_LAYERS, SEED, ZOO, Feeds, feeds, image

OPSET = 20
tf: Any = transformers  # its configurations take more names than their signatures say
logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision's absence, which nothing here needs


def randomise(model: nn.Module, seed: int = SEED) -> None:
    """Give every parameter a value like a trained one: no weight is 0 or 1, and no layer is scaled away.

    Matrices keep their input's variance; norms are near one, biases near zero; ConvNeXt's layer scales, which
    start at 1e-6, are set to a trained net's size, since otherwise a wrong block would not be seen in the output.
    """
    rng = torch.Generator().manual_seed(seed)

    def normal(like: Tensor, mean: float, std: float) -> Tensor:
        return torch.randn(like.shape, generator=rng) * std + mean

    norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)
    with torch.no_grad():
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                if isinstance(module, norms):
                    value.copy_(normal(value, 1.0 if name == "weight" else 0.0, 0.15))
                elif isinstance(module, nn.RNNBase):
                    value.copy_(normal(value, 0.0, 1.0 / math.sqrt(value.shape[-1]) if value.ndim > 1 else 0.1))
                elif name == "layer_scale_parameter":
                    value.copy_(normal(value, 0.3, 0.1))
                elif isinstance(module, nn.Embedding) or name.endswith(("token", "embeddings")):
                    value.copy_(normal(value, 0.0, 0.3))
                elif value.ndim > 1:
                    transposed = type(module).__name__ == "Conv1D"  # GPT-2 stores [in, out]
                    fan_in = value.shape[0] if transposed else value[0].numel()
                    gain = math.sqrt(2.0) if isinstance(module, nn.Conv2d) else 1.0
                    value.copy_(normal(value, 0.0, gain / math.sqrt(fan_in)))
                else:
                    value.copy_(normal(value, 0.0, 0.05))


def settle_batch_norm(model: nn.Module, batches: int = 3, size: int = 8) -> None:
    """Set the running statistics of every batch norm from random pictures [size, 3, 224, 224]."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    rng = np.random.default_rng(SEED)
    with torch.no_grad():
        for _ in range(batches):
            model(torch.from_numpy(image(rng, (size, 3, 224, 224))))
    model.eval()


class Logits(nn.Module):
    """A transformers picture classifier that takes a plain tensor and returns one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=input).logits
        return logits


def resnet(depths: list[int], kind: str, hidden: list[int]) -> nn.Module:
    config = tf.ResNetConfig(depths=depths, layer_type=kind, hidden_sizes=hidden, num_labels=1000)
    return Logits(tf.ResNetForImageClassification(config))


def mobilenet_v2() -> nn.Module:
    # Symmetric padding is PyTorch's own form of this net; the TensorFlow form comes from Keras.
    return Logits(tf.MobileNetV2ForImageClassification(tf.MobileNetV2Config(tf_padding=False, num_labels=1000)))


def efficientnet_b0() -> nn.Module:
    config = tf.EfficientNetConfig(
        image_size=224,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        dropout_rate=0.2,
        num_labels=1000,
    )
    model = tf.EfficientNetForImageClassification(config)
    # The stock pooler is an AvgPool2d of 1280x1280 in ceil mode, which exports as an invalid AveragePool.
    model.efficientnet.pooler = nn.AdaptiveAvgPool2d(1)
    return Logits(model)


def convnext_tiny() -> nn.Module:
    return Logits(tf.ConvNextForImageClassification(tf.ConvNextConfig(num_labels=1000)))


def vit_small() -> nn.Module:
    config = tf.ViTConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, num_labels=1000
    )
    return Logits(tf.ViTForImageClassification(config))


class SentenceEncoder(nn.Module):
    """BERT as sentence encoders ship it: token embeddings out."""

    def __init__(self) -> None:
        super().__init__()
        config = tf.BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        self.model = tf.BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        states: Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        return states


class CachedGPT2(nn.Module):
    """GPT-2 small, one step: the cache comes in as plain tensors and goes out longer."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tf.GPT2LMHeadModel(tf.GPT2Config())

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        pairs = list(zip(past[0::2], past[1::2], strict=True))
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=tf.DynamicCache(ddp_cache_data=pairs),
            use_cache=True,
        )
        present: list[Tensor] = []
        for layer in out.past_key_values.layers:
            present += [layer.keys, layer.values]
        return (out.logits, *present)


class Recurrent(nn.Module):
    """Two recurrent layers 128 -> 256 -> 256 and a linear one to 32, over a whole sequence."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(128, 256, num_layers=2, batch_first=True)
        self.out = nn.Linear(256, 32)

    def forward(self, input: Tensor) -> Tensor:
        states: Tensor = self.out(self.rnn(input)[0])
        return states


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: resnet([2, 2, 2, 2], "basic", [64, 128, 256, 512]),
    "resnet50": lambda: resnet([3, 4, 6, 3], "bottleneck", [256, 512, 1024, 2048]),
    "mobilenetv2": mobilenet_v2,
    "efficientnet_b0": efficientnet_b0,
    "convnext_tiny": convnext_tiny,
    "vit_small": vit_small,
    "minilm": SentenceEncoder,
    "gpt2": CachedGPT2,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
}


def versions() -> dict[str, str]:
    import onnxscript

    return {"torch": torch.__version__, "transformers": tf.__version__, "onnxscript": onnxscript.__version__}


def _tensors(example: Feeds) -> list[Tensor]:
    return [torch.from_numpy(value) for value in example.values()]


def settled(name: str) -> nn.Module:
    """The zoo model ``name`` with its weights, the same ones each time."""
    model = BUILDERS[name]().eval()
    randomise(model)
    settle_batch_norm(model)
    return model


def build_tflite(name: str, path: Path) -> None:
    """Build the zoo model ``name`` and write it to ``path`` for LiteRT, for the one shape that is measured."""
    import litert_torch

    args: list[Any] = _tensors(feeds(name))
    if name == "gpt2":
        args = [*args[:3], args[3:]]
    litert_torch.convert(settled(name), tuple(args)).export(str(path))


def build(name: str, path: Path) -> None:
    """Build the zoo model ``name`` and write it to ``path`` as ONNX, opset 20."""
    model = settled(name)
    dim = torch.export.Dim
    batch, length = dim("batch"), dim("sequence")
    options: dict[str, Any] = {}
    args: tuple[Any, ...]
    if name == "gpt2":
        example = feeds(name, batch=2, sequence=3, past=5)
        ids, mask, positions, *past = _tensors(example)
        args = (ids, mask, positions, past)
        cache = [{0: batch, 2: dim("past")}] * (2 * GPT2_LAYERS)
        options["dynamic_shapes"] = (
            {0: batch, 1: length},
            {0: batch, 1: dim.DYNAMIC},
            {0: batch, 1: length},
            cache,
        )
        present = [n.replace("past_key_values", "present") for n in example if n.startswith("past")]
        outputs = ["logits", *present]
    elif name == "minilm":
        example = feeds(name, batch=2, sequence=16)
        args = tuple(_tensors(example))
        options["dynamic_shapes"] = tuple({0: batch, 1: length} for _ in args)
        outputs = ["last_hidden_state"]
    else:
        example = feeds(name)
        args = tuple(_tensors(example))
        outputs = ["output" if ZOO[name].family == "rnn" else "logits"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            args,
            str(path),
            input_names=list(example),
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
            **options,
        )
