"""ImageDecoder (ai.onnx 20), whose codecs are Pillow's: ``pip install 'linnet[image]'``."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from linnet import _errors
from linnet._operators import TensorInfo, register_operator

# What the specification names. Other formats that Pillow knows are not tried on untrusted bytes.
FORMATS = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")
CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}
MOST_PIXELS = 89_478_485  # a quarter of a gigabyte of RGB; Pillow's own limit


def infer(encoded: TensorInfo, *, pixel_format: str = "RGB") -> TensorInfo:
    """The type of the decoded image: uint8 [height, width, channels].

    Raises:
        NotImplementedOp: Pillow is not installed.
        InvalidGraph: the input or the attribute is not what the specification says.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise _errors.NotImplementedOp("decoding images needs Pillow: pip install 'linnet[image]'") from None
    if pixel_format not in CHANNELS:
        raise _errors.InvalidGraph(f"pixel_format is {pixel_format!r}; expected {', '.join(CHANNELS)}")
    if encoded.dtype not in (None, np.uint8) or (encoded.shape is not None and len(encoded.shape) != 1):
        raise _errors.InvalidGraph(f"expected the bytes of an image, uint8 [size], given {encoded}")
    return TensorInfo(np.uint8, (None, None, CHANNELS[pixel_format]))


def decode(encoded: npt.NDArray[np.uint8], *, pixel_format: str = "RGB") -> npt.NDArray[np.uint8]:
    """The pixels of an encoded image, uint8 [height, width, channels]; [0, 0, channels] for bytes that are no image.

    The first image of a file with several. Pixels lie as they are stored: EXIF's orientation is not applied. Alpha is
    dropped, 16-bit samples lose their low byte.

    Raises:
        RuntimeException: the image has more than `MOST_PIXELS` pixels, or this Pillow lacks the codec.
    """
    import PIL.Image

    bombs = (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning)
    try:
        with PIL.Image.open(io.BytesIO(encoded.tobytes()), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise PIL.Image.DecompressionBombError
            pixels = _pixels(image, "L" if pixel_format == "Grayscale" else "RGB")
    except bombs:
        raise _errors.RuntimeException(f"the image has more than {MOST_PIXELS} pixels") from None
    except MemoryError:
        raise
    except Exception as error:  # codecs raise nearly anything for bytes that are none of theirs
        if "not available" in str(error):
            raise _errors.RuntimeException(f"this Pillow cannot decode the image: {error}") from error
        return np.zeros((0, 0, CHANNELS[pixel_format]), np.uint8)
    if pixel_format == "Grayscale":
        return pixels[:, :, np.newaxis]
    return pixels[:, :, ::-1] if pixel_format == "BGR" else pixels


def _pixels(image: Any, mode: str) -> npt.NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        import PIL.Image

        image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert(mode))


register_operator("", "ImageDecoder", 20, infer=infer, run=decode)
