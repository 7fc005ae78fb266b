"""Scales, zero points and integers of constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Affine(NamedTuple):
    """value = (integer - zero) * scale."""

    scale: float
    zero: int


@dataclass(frozen=True)
class ByteType:
    """What activations become: ``uint8`` or ``int8``, with a zero point in the middle of the range or not."""

    name: str = "uint8"
    symmetric: bool = False

    @property
    def levels(self) -> int:
        """Of the range that calibration chooses."""
        return 255 if self.symmetric else 256

    def affine(self, low: float, high: float) -> Affine:
        """The parameters that cover [low, high] and 0. A value that never was anything but 0 gets a sane scale."""
        low, high = min(low, 0.0), max(high, 0.0)
        least = -128 if self.name == "int8" else 0
        if self.symmetric:
            scale = _normal(max(-low, high) / 127)
            return Affine(scale, least + 128)
        scale = _normal((high - low) / 255)
        return Affine(scale, int(np.clip(np.rint(least - low / scale), least, least + 255)))


def _normal(scale: float) -> float:
    """The scale as the float32 that the file holds; 0 and what is too small for arithmetic become 1/255 and 1e-30."""
    return float(np.float32(max(scale, 1e-30) if scale > 0 else 1 / 255))


def weight_scales(weights: Array, axis: int | None, most: int = 127) -> Array:
    """Symmetric scales: [channels] along ``axis``, or a scalar. Channels that are all but 0 borrow from the others."""
    size = np.abs(weights)
    peak = size.max() if axis is None else size.max(tuple(i for i in range(weights.ndim) if i != axis))
    largest = float(size.max())
    return np.asarray(np.maximum(peak, max(largest * 1e-6, 1e-25)) / most, np.float32)


def quantized(weights: Array, scales: Array, axis: int | None, most: int = 127) -> Array:
    """Integers of the symmetric scales, in [-most, most], as int8."""
    shape = [1] * weights.ndim
    if axis is not None:
        shape[axis] = -1
    return np.clip(np.rint(weights / scales.reshape(shape)), -most, most).astype(np.int8)


def bias_scales(bias: Array, input_scale: float, scales: Array) -> Array:
    """The weights' scales, raised where the bias in steps of input_scale * scale would not fit into int32."""
    least = (np.abs(bias) / (input_scale * (2**31 - 256))).astype(np.float32)
    return np.maximum(scales, least if scales.ndim else least.max())


def blocks(weights: Array, block: int, bits: int, symmetric: bool, search: bool) -> tuple[Array, Array, Array | None]:
    """Integers in blocks of ``block`` rows: weights [K, N] to ([K, N], scales [ceil(K/block), N], zeros or None).

    Symmetric integers are signed, in [-(2^(bits-1) - 1), 2^(bits-1) - 1]; the others are unsigned with a zero point.
    ``search``: of 20 narrower ranges for each block the one with the least squared error is taken.
    """
    rows, columns = weights.shape
    count = -(-rows // block)
    padded = np.zeros((count * block, columns), np.float32)
    padded[:rows] = weights
    x = padded.reshape(count, block, columns)
    low, high = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
    best: tuple[Array, Array, Array] | None = None
    least = None
    for share in np.linspace(1, 0.6, 20) if search else [1.0]:
        scale, zero, integers = _block_integers(x, low * share, high * share, bits, symmetric)
        error = np.square((integers - zero[:, None]) * scale[:, None] - x).sum(1)
        if least is None or best is None:
            least, best = error, (scale, zero, integers)
            continue
        better = error < least
        least = np.minimum(error, least)
        best = (
            np.where(better, scale, best[0]),
            np.where(better, zero, best[1]),
            np.where(better[:, None], integers, best[2]),
        )
    assert best is not None
    kind = np.int8 if symmetric else np.uint8
    flat = best[2].reshape(-1, columns)[:rows].astype(kind)
    return flat, best[0].astype(np.float32), None if symmetric else best[1].astype(kind)


def _block_integers(x: Array, low: Array, high: Array, bits: int, symmetric: bool) -> tuple[Array, Array, Array]:
    if symmetric:
        most = 2 ** (bits - 1) - 1
        scale = np.maximum(np.maximum(-low, high) / most, 1e-25).astype(np.float32)
        return scale, np.zeros_like(scale), np.clip(np.rint(x / scale[:, None]), -most, most)
    most = 2**bits - 1
    scale = np.maximum((high - low) / most, 1e-25).astype(np.float32)
    zero = np.clip(np.rint(-low / scale), 0, most)
    return scale, zero, np.clip(np.rint(x / scale[:, None]) + zero[:, None], 0, most)
