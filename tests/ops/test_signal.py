"""Fourier transforms, windows and losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from one_node import check, linnet, reference


def normal(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def pairs(x: Any, dtype: Any) -> Any:
    return np.stack([x.real, x.imag], -1).astype(dtype)


def joined(x: Any) -> Any:
    return x[..., 0].astype(np.float64) + (1j * x[..., 1] if x.shape[-1] == 2 else 0)


LENGTHS = [1, 2, 3, 8, 15, 32, 33, 64, 97, 100, 400, 1021, 1024]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dft(n: int, dtype: Any) -> None:
    near = {"tolerance": 1e-6 if dtype == np.float32 else 1e-11, "absolute": 1e-5 if dtype == np.float32 else 1e-11}
    real, both = normal((2, n, 1), dtype), normal((2, n, 2), dtype, 1)
    for x in (real, both):
        check(linnet("DFT", x, opset=20)[0], pairs(np.fft.fft(joined(x), axis=1), dtype), **near)
        check(linnet("DFT", x, opset=20, inverse=1)[0], pairs(np.fft.ifft(joined(x), axis=1), dtype), **near)
        check(linnet("DFT", x, opset=17)[0], pairs(np.fft.fft(joined(x), axis=1), dtype), **near)
    for length in (max(1, n - 3), n + 5):
        got = linnet("DFT", both, np.array(length, np.int64), opset=20)[0]
        check(got, pairs(np.fft.fft(joined(both), length, axis=1), dtype), **near)
    check(linnet("DFT", real, opset=20, onesided=1)[0], pairs(np.fft.rfft(joined(real).real, axis=1), dtype), **near)
    spectrum = pairs(np.fft.rfft(joined(real).real, axis=1), dtype)
    back = linnet("DFT", spectrum, np.array(n, np.int64), opset=20, onesided=1, inverse=1)[0]
    check(back, np.fft.irfft(joined(spectrum), n, axis=1)[..., None].astype(dtype), **near)


def test_dft_axes() -> None:
    x = normal((3, 5, 12, 2))
    for axis in (0, 1, 2, -2, -3, -4):
        want = pairs(np.fft.fft(joined(x), axis=axis if axis >= 0 else axis + 1), np.float32)
        check(linnet("DFT", x, None, np.array(axis, np.int64), opset=20)[0], want, 1e-6, 1e-5)
    for axis in (3, -1, 4):
        with pytest.raises(Exception, match="axis"):
            linnet("DFT", x, None, np.array(axis, np.int64), opset=20, constants=(2,))


@pytest.mark.parametrize("onesided", [0, 1])
def test_stft(onesided: int) -> None:
    x, window = normal((2, 200, 1)), np.hanning(48).astype(np.float32)
    for step in (1, 16, 50):
        frames = np.lib.stride_tricks.sliding_window_view(x[..., 0], 48, axis=1)[:, ::step] * window
        want = pairs((np.fft.rfft if onesided else np.fft.fft)(frames.astype(np.float64)), np.float32)
        operands = [x, np.array(step, np.int64), window, np.array(48, np.int64)]
        got = linnet("STFT", *operands, opset=17, onesided=onesided)[0]
        check(got, want, 1e-6, 1e-5)
        check(linnet("STFT", x, np.array(step, np.int64), window, opset=17, onesided=onesided)[0], want, 1e-6, 1e-5)
        rank2 = [x[..., 0], *operands[1:]]  # PyTorch exports real signals as [batch, samples]
        check(linnet("STFT", *rank2, opset=17, onesided=onesided)[0], want, 1e-6, 1e-5)
    with pytest.raises(Exception, match="frame_length"):
        linnet("STFT", x, np.array(8, np.int64), None, np.array(201, np.int64), opset=17)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(op: str, periodic: int) -> None:
    for size in (2, 9, 64):
        for code in (1, 11, 10):  # FLOAT, DOUBLE, FLOAT16
            want = reference(op, np.array(size, np.int64), opset=17, periodic=periodic, output_datatype=code)[0]
            got = linnet(op, np.array(size, np.int64), opset=17, periodic=periodic, output_datatype=code)[0]
            check(got, want, 1e-6, 1e-6 if code != 10 else 4e-3)  # the reference computes in float16
    assert linnet(op, np.array(0, np.int64), opset=17)[0].shape == (0,)


def test_mel_weight_matrix() -> None:
    sizes = [np.array(n, np.int64) for n in (8, 64, 8192)]
    operands = [*sizes, np.float32(20), np.float32(4000)]
    check(linnet("MelWeightMatrix", *operands, opset=17)[0], reference("MelWeightMatrix", *operands, opset=17)[0])
    operands[4] = np.float32(1e6)
    with pytest.raises(Exception, match="beyond"):
        linnet("MelWeightMatrix", *operands, opset=17)


@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses(op: str, reduction: str) -> None:
    rng = np.random.default_rng(0)
    for shape in ((4, 5), (2, 3, 6), (2, 3, 4, 5)):
        x, weight = normal(shape), np.abs(normal(shape[1:2], seed=1))
        labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        for inputs in ([x, labels], [x, labels, weight]):
            for more in ({}, {"ignore_index": 1}):
                want = reference(op, *inputs, opset=13, reduction=reduction, **more)[0]
                check(linnet(op, *inputs, opset=13, reduction=reduction, **more)[0], np.asarray(want, np.float32), 1e-5)
        with pytest.raises(Exception, match="label"):
            linnet(op, x, labels + shape[1], opset=13)
