"""Pretrained models get labelled and recorded data right: captchas, digits, speech, stories."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from assets import CAPTCHA_MODEL, Asset, captchas, mnist_digits, read_captchas

from model_checks import assert_same

Floats = npt.NDArray[np.float32]

SILERO = "snakers4__silero-vad"
TRACT = "sonos__tract/onnx/test_cases"


def test_captchas_are_read(asset: Asset, open_model: Any, open_reference: Any) -> None:
    """Of 200 labelled captchas at least as many are read without a fault as onnxruntime reads."""
    path = asset(CAPTCHA_MODEL)
    pictures, labels = captchas(asset, 200)

    def right(session: Any) -> int:
        texts = read_captchas(asset, lambda feeds: session.run(None, feeds), pictures)
        return sum(a == b for a, b in zip(texts, labels, strict=True))

    ours, theirs = right(open_model(path)), right(open_reference(path))
    assert theirs >= 195
    assert ours >= theirs


@pytest.mark.parametrize(
    ("file", "count", "scale", "mean", "deviation", "right"),
    [
        ("xboot__libonnx/tests/model/mnist_8/model.onnx", 2000, 1.0, 0.0, 1.0, 1968),
        ("kraiskil__onnx2c/test/mnist/pytorch.onnx", 1000, 255.0, 0.0, 1.0, 908),
        ("onnxruntime__onnxruntime-qnn/java/testdata/cnn_mnist_pytorch.onnx", 2000, 255.0, 0.1307, 0.3081, 1970),
    ],
)
def test_mnist_digits_are_read(
    file: str, count: int, scale: float, mean: float, deviation: float, right: int, asset: Asset, open_model: Any
) -> None:
    """The number of MNIST test digits read right is the one onnxruntime gets, give or take one tie."""
    session = open_model(asset(file))
    (given,) = session.get_inputs()
    images, labels = mnist_digits(asset)
    pictures = ((images[:count] / scale - mean) / deviation).astype(np.float32)
    guesses = [session.run(None, {given.name: p.reshape(given.shape)})[0].argmax() for p in pictures]
    assert abs(int(np.sum(np.array(guesses) == labels[:count])) - right) <= 1


def recording(asset: Asset) -> Floats:
    """One minute of speech, float32 [960000] in -1..1 at 16 kHz."""
    with wave.open(str(asset(f"{SILERO}/tests/data/test.wav"))) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


@pytest.mark.parametrize(
    ("model", "mean"), [("silero_vad", 0.6397), ("silero_vad_16k_op15", 0.6397), ("silero_vad_half", 0.6383)]
)
def test_voice_is_detected(model: str, mean: float, asset: Asset, open_model: Any) -> None:
    """Over 300 frames of speech, the state handed on, the mean probability is the published one."""
    session, sound = open_model(asset(f"{SILERO}/src/silero_vad/data/{model}.onnx")), recording(asset)
    feeds: dict[str, Any] = {"state": np.zeros((2, 1, 128), np.float32)}
    if "sr" in [given.name for given in session.get_inputs()]:
        feeds["sr"] = np.array(16000, np.int64)
    padded = np.concatenate([np.zeros(64, np.float32), sound])  # each frame sees the 64 samples before it
    chances = []
    for frame in range(300):
        feeds["input"] = padded[None, frame * 512 : frame * 512 + 576]
        chance, feeds["state"] = session.run(None, feeds)
        chances.append(float(chance[0, 0]))
    assert np.mean(chances) == pytest.approx(mean, abs=1e-4)


def test_noise_is_removed_as_onnxruntime_does(asset: Asset, open_model: Any, open_reference: Any) -> None:
    """DTLN cleans a second of noisy speech, both models with their states: the sound stays within 1e-4."""
    folder = "breizhn__DTLN/pretrained_model"
    speech = recording(asset)[16000:32000]
    noisy = speech + np.random.default_rng(3).normal(0, 0.02, len(speech)).astype(np.float32)

    def cleaned(opener: Any) -> Floats:
        spectral, temporal = (opener(asset(f"{folder}/model_{k}.onnx")) for k in (1, 2))
        first = second = np.zeros((1, 2, 128, 2), np.float32)
        out = np.zeros(len(noisy) + 512, np.float32)
        for start in range(0, len(noisy) - 511, 128):
            spectrum = np.fft.rfft(noisy[start : start + 512])
            size = np.abs(spectrum).astype(np.float32).reshape(1, 1, 257)
            mask, first = spectral.run(None, {"input_2": size, "input_3": first})
            block = np.fft.irfft(spectrum * mask[0, 0]).astype(np.float32).reshape(1, 1, 512)
            sound, second = temporal.run(None, {"input_4": block, "input_5": second})
            out[start : start + 512] += sound[0, 0]
        return out

    ours, theirs = cleaned(open_model), cleaned(open_reference)
    assert np.abs(theirs).max() > 0.01
    assert_same(ours, theirs, "cleaned sound")


def test_stories_logits(asset: Asset, open_model: Any) -> None:
    """A 260K-parameter language model gives the recorded logits of a story, and so the same next tokens."""
    folder = "plctlab__rvspoc-s2311-llama2"
    with np.load(asset(f"{folder}/stories260K_ref.npz")) as file:
        ids, logits = file["ids"], file["logits"]
    (got,) = open_model(asset(f"{folder}/stories260K.onnx")).run(None, {"ids": ids})
    assert_same(got, logits, "logits")
    assert np.array_equal(got.argmax(-1), logits.argmax(-1))


def test_generation_with_a_cache_equals_generation_without(asset: Asset, open_model: Any) -> None:
    """Twenty greedy tokens of a GPT-2, one at a time over its cache, equal those from the whole sequence each time."""
    session = open_model(asset("HelgeS__capp-gpt-serve/model/model.onnx"))

    def step(ids: Sequence[int], past: int, cache: list[Any]) -> tuple[Any, list[Any]]:
        feeds: dict[str, Any] = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, past + len(ids)), np.int64),
            "position_ids": np.arange(past, past + len(ids), dtype=np.int64)[None],
        }
        names = [given.name for given in session.get_inputs() if given.name.startswith("past")]
        logits, *present = session.run(None, feeds | dict(zip(names, cache, strict=True)))
        return logits, present

    empty = [np.zeros((1, 4, 0, 16), np.float32)] * 8
    tokens = [0, 7, 13]
    logits, cache = step(tokens, 0, empty)
    for _ in range(20):
        tokens.append(int(logits[0, -1].argmax()))
        whole, _ = step(tokens, 0, empty)
        logits, cache = step(tokens[-1:], len(tokens) - 1, cache)
        assert_same(logits[0, -1], whole[0, -1], f"logits after {len(tokens)} tokens")


@pytest.mark.parametrize("case", ["lgbm_classifier_tensor", "xgboost_classifier_tree"])
def test_recorded_probabilities(case: str, asset: Asset, open_model: Any) -> None:
    session = open_model(asset(f"{TRACT}/{case}/model.onnx"))
    with np.load(asset(f"{TRACT}/{case}/io.npz")) as file:
        (got,) = session.run(["probabilities"], {"input": file["input"]})
        assert_same(got, file["probabilities"], "probabilities", 1e-6)


def test_recorded_tensors(asset: Asset, open_model: Any) -> None:
    """The input and output that were published with MNIST-8 as protobuf files."""
    onnx = pytest.importorskip("onnx")
    folder = "kraiskil__onnx2c/test/mnist"
    given, due = (
        onnx.numpy_helper.to_array(onnx.load_tensor(asset(f"{folder}/test_data_set_0/{part}_0.pb")))
        for part in ("input", "output")
    )
    session = open_model(asset(f"{folder}/model.onnx"))
    (got,) = session.run(None, {session.get_inputs()[0].name: given})
    assert_same(got, due, "output")
