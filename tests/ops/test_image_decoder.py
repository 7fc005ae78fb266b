"""ImageDecoder: pixel formats, what is no image, limits, and Pillow that is not there."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
import PIL.Image
import pytest
from onnx import TensorProto, helper

import linnet

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)


def model(pixel_format: str | None = None, dtype: int = TensorProto.UINT8, rank: int = 1) -> bytes:
    attributes = {} if pixel_format is None else {"pixel_format": pixel_format}
    node = helper.make_node("ImageDecoder", ["data"], ["image"], "decode", **attributes)
    data = helper.make_tensor_value_info("data", dtype, [None] * rank)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, None)
    graph = helper.make_graph([node], "g", [data], [image])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    serialized: bytes = made.SerializeToString()
    return serialized


def encoded(image: Any, kind: str, **options: Any) -> np.ndarray:
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return np.frombuffer(file.getvalue(), np.uint8)


def decode(data: np.ndarray, pixel_format: str | None = None) -> np.ndarray:
    result: np.ndarray = linnet.load(model(pixel_format))(data)
    return result


@pytest.mark.parametrize("kind", ["png", "bmp", "ppm", "tiff", "jpeg2000", "webp"])
def test_lossless_formats(kind: str) -> None:
    options = {"webp": {"lossless": True}, "jpeg2000": {"irreversible": False}}.get(kind, {})
    data = encoded(PIL.Image.fromarray(PIXELS), kind, **options)
    np.testing.assert_array_equal(decode(data), PIXELS)
    np.testing.assert_array_equal(decode(data, "BGR"), PIXELS[:, :, ::-1])
    gray = np.asarray(PIL.Image.fromarray(PIXELS).convert("L"))
    np.testing.assert_array_equal(decode(data, "Grayscale"), gray[:, :, None])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_the_pixel_format(mode: str) -> None:
    if mode == "I;16":
        image = PIL.Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) << 8 | 7)
        expected = np.repeat(PIXELS[:, :, :1], 3, axis=2)
    else:
        image = PIL.Image.fromarray(PIXELS).convert(mode)
        expected = np.asarray(image.convert("RGB"))
    kind = "tiff" if mode == "CMYK" else "png"
    for pixel_format, pixels in (("RGB", expected), ("BGR", expected[:, :, ::-1])):
        np.testing.assert_array_equal(decode(encoded(image, kind), pixel_format), pixels)
    assert decode(encoded(image, kind), "Grayscale").shape == (6, 5, 1)


def test_the_orientation_of_exif_is_not_applied() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    np.testing.assert_array_equal(decode(encoded(PIL.Image.fromarray(PIXELS), "png", exif=exif)), PIXELS)


def test_what_is_no_image_gives_an_empty_matrix() -> None:
    png = encoded(PIL.Image.fromarray(np.tile(PIXELS, (20, 20, 1))), "png")
    jpeg = encoded(PIL.Image.fromarray(np.tile(PIXELS, (20, 20, 1))), "jpeg")
    gif = encoded(PIL.Image.fromarray(PIXELS), "gif")  # a format that the specification does not name
    source = np.random.default_rng(1)
    broken = [np.zeros(0, np.uint8), source.integers(0, 256, 1000, np.uint8), gif]
    for data in (png, jpeg):
        broken += [data[: len(data) // 2], data[:20]]
    for data in broken:
        assert decode(data).shape == (0, 0, 3)
        assert decode(data, "Grayscale").shape == (0, 0, 1)
    for _ in range(200):  # bytes that change in the middle: an image of some kind, or none
        data = (png if source.integers(2) else jpeg).copy()
        data[source.integers(len(data), size=5)] = source.integers(0, 256, 5)
        image = decode(data)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_too_many_pixels() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    with pytest.raises(linnet.RuntimeException, match=r"node 'decode' .*: the image has more than \d+ pixels"):
        decode(np.frombuffer(bomb, np.uint8))


def test_what_the_specification_forbids() -> None:
    with pytest.raises(linnet.InvalidGraph, match="pixel_format is 'YUV'; expected RGB, BGR, Grayscale"):
        linnet.load(model("YUV"))
    for wrong in (model(dtype=TensorProto.FLOAT), model(rank=2)):
        with pytest.raises(linnet.InvalidGraph, match="expected the bytes of an image"):
            linnet.load(wrong)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(linnet.NotImplementedOp, match=r"node 'decode' .*: .* needs Pillow: pip install 'linnet\[image"):
        linnet.load(model())
