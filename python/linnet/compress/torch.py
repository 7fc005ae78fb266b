"""Pruning while a PyTorch model trains, in a training loop of your own::

    pruner = linnet.compress.torch.Pruner(model, sparsity=0.8, structure="4x1", begin=200, end=2000)
    pruner.attach(optimizer)                 # every optimizer.step() now prunes and keeps the zeros

Then export the model to ONNX as it is: the zeros are in its weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from linnet.compress import _training
from linnet.compress._select import Layer

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise ImportError(f"linnet.compress.torch needs PyTorch ({error}): pip install torch") from error


class Pruner:
    """Gradual magnitude pruning: from no zeros to ``sparsity`` along a cubic schedule, and fine-tuning with the mask.

    Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression" (2017). The
    weights of convolutions and linear layers are masked in place; nothing in the model changes its type or name.

    Args:
        model: whose layers are pruned.
        sparsity: the share of the chosen layers' weights that is zero in the end.
        structure: "unstructured", "4x1" or "n:m" such as "2:4", as for `linnet.compress.prune`.
        scope: "layer" or "global", as for `linnet.compress.prune`.
        begin, end: steps of the optimizer between which weights go; after ``end`` the zeros stay as they are.
        every: steps between two looks at the weights.
        layers, exclude: patterns for names of modules, or kinds such as "Linear" and "Conv2d 3x3"; by default all
            but grouped convolutions.

    Raises:
        InvalidArgument: an option does not fit, or the model has no such layer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        sparsity: float = 0.8,
        structure: str = "4x1",
        scope: str = "global",
        begin: int = 0,
        end: int,
        every: int = 50,
        layers: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
    ) -> None:
        self._modules: dict[str, Any] = {name: m for name, m in model.named_modules() if isinstance(m, _KINDS)}
        found = [_layer(name, module) for name, module in self._modules.items()]
        self._schedule = _training.Schedule(found, sparsity, structure, scope, begin, end, every, layers, exclude)
        self._masks: dict[str, Tensor] = {}
        self._steps = 0
        self._hook: Any = None

    def attach(self, optimizer: torch.optim.Optimizer) -> Pruner:
        """Lets `step` follow every ``optimizer.step()``; gives itself."""
        self.detach()
        self._hook = optimizer.register_step_post_hook(lambda *_: self.step())
        return self

    def detach(self) -> None:
        """Ends `attach`."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def step(self) -> None:
        """After a step of the optimizer: cuts what is due, and sets to zero again what was cut before."""
        masks = self._schedule.due(
            self._steps, lambda: {n: w.detach().cpu().float().numpy() for n, w in self._weights()}
        )
        with torch.no_grad():
            for name, weight in self._weights():
                if masks is not None:
                    self._masks[name] = torch.from_numpy(masks[name]).to(weight.device)
                if name in self._masks:
                    weight.mul_(self._masks[name])
        self._steps += 1

    def _weights(self) -> list[tuple[str, Tensor]]:
        return [(layer.name, self._modules[layer.name].weight) for layer in self._schedule.layers]

    @property
    def sparsity(self) -> float:
        """The share of zeros in the chosen layers now."""
        weights = [weight for _, weight in self._weights()]
        nonzero = sum(int(torch.count_nonzero(w)) for w in weights)
        return 1.0 - nonzero / sum(int(w.numel()) for w in weights)

    def state_dict(self) -> dict[str, Any]:
        """What a training run that goes on later must know."""
        return {"steps": self._steps, "masks": dict(self._masks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self._steps, self._masks = state["steps"], dict(state["masks"])


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


def _layer(name: str, module: Any) -> Layer:
    shape = tuple(module.weight.shape)
    kind = " ".join([type(module).__name__, *(["x".join(map(str, shape[2:]))] if shape[2:] else [])])
    outputs, inputs = (1, 0) if isinstance(module, _TRANSPOSED) else (0, 1)
    groups = getattr(module, "groups", 1)
    return Layer(name, kind, type(module).__name__, f"{name}.weight", shape, outputs, inputs, groups)
