"""Convert an image file of any mode to 8-bit RGB."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from bsrbench.harness.errors import BadInput, shortened
from bsrbench.harness.workload.data.image_bounds import FORMATS, open_image
from bsrbench.harness.workload.data.pixel_storage import (
    GREY_SIXTEEN,
    UPRIGHT,
    PixelStorage,
    how_stored,
)

LARGE = 4_000_000  # pixels; decoding this many needs 64 MB
BITS = 8
OPAQUE = 255
PAGE = (255, 255, 255, OPAQUE)  # background of transparent pixels: white, as on a page
# The operation that makes an image upright, by EXIF's number of its orientation.
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PLAIN = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})
WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
UNKNOWN = {"I": "32-bit integers", "F": "32-bit floating-point numbers"}
WHAT_TO_DO = "save it with 8 bits per channel, or remove it"


class Treatment(StrEnum):
    """How the pixels of images were converted; notes of a record contain these texts."""

    TURNED = "were turned as their EXIF orientation says"
    LAID_OVER_WHITE = "are transparent in places and were laid over white"
    NARROWED = "have more than 8 bits per channel, of which the upper 8 were kept"
    WITHOUT_PROFILE = "are CMYK and became RGB without a colour profile"


class UnknownPixels(BadInput):
    """The mode of an image does not define the colours of its pixel values."""


@dataclass(frozen=True)
class Pixels:
    """An image in 8-bit RGB.

    Attributes:
        image: uint8, [3, height, width].
        treatments: how its pixels were converted.
    """

    image: Tensor
    treatments: frozenset[Treatment]


def read(file: Path, turn: AbstractContextManager[object] | None = None) -> Pixels:
    """Return the pixels of a file.

    Args:
        file: a regular file; nothing else is opened.
        turn: a lock that is held while a large image is decoded; several threads can share it.

    Raises:
        UnknownPixels: the mode of the image does not define the colours of its pixel values.
        BadInput: the file does not decode.
    """
    try:
        with open_image(file) as image:
            large = turn is not None and image.width * image.height > LARGE
            with turn if large else nullcontext():  # type: ignore[union-attr]  # then turn is set
                return _decoded(image)
    except UnknownPixels as error:
        raise UnknownPixels(f"{file}: {error}") from error
    except Exception as error:
        # PIL's readers raise errors of many types for damaged files.
        raise BadInput(f"{file} cannot be decoded as an image ({_reason(error)})") from error


def _decoded(image: Image.Image) -> Pixels:
    stored = how_stored(image)
    image.load()
    upright, turned = _upright(image)
    rgb, treatments = in_rgb(upright, stored)
    return Pixels(pil_to_tensor(rgb), turned | treatments)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # PIL's message contains a memory address
        return f"its format is none of {', '.join(FORMATS)}"
    message = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return shortened(f"{type(error).__name__}: {message}" if message else type(error).__name__)


def in_rgb(image: Image.Image, stored: PixelStorage) -> tuple[Image.Image, frozenset[Treatment]]:
    """Convert an image of any mode to mode RGB; also return how it was converted.

    Raises:
        UnknownPixels: the mode of the image does not define the colours of its pixel values.
    """
    done = set()
    if stored.wide:
        done.add(Treatment.NARROWED)
    if stored.turned:
        done.add(Treatment.TURNED)
    if image.mode == "CMYK":
        done.add(Treatment.WITHOUT_PROFILE)
    seen = _eight_bits(image, stored)
    if stored.transparent is not None and image.mode != "P":
        seen = _without_colour(image, seen, stored)
    if seen.mode == "RGBA":
        if seen.getchannel("A").getextrema()[0] < OPAQUE:  # type: ignore[operator]  # of one band: two numbers
            done.add(Treatment.LAID_OVER_WHITE)
        seen = Image.alpha_composite(Image.new("RGBA", seen.size, PAGE), seen).convert("RGB")
    return seen, frozenset(done)


def _eight_bits(image: Image.Image, stored: PixelStorage) -> Image.Image:
    """Convert an image to mode RGB, or to RGBA if it has an alpha band or a transparent palette.

    Raises:
        UnknownPixels: the mode of the image does not define the colours of its pixel values.
    """
    if image.mode in GREY_SIXTEEN or (image.mode == "I" and stored.scaled):
        grey = np.asarray(image).astype(np.int32) >> (stored.bits - BITS)
        turned = OPAQUE - grey if stored.inverted else grey
        return Image.fromarray(turned.astype(np.uint8)).convert("RGB")
    if image.mode in UNKNOWN:
        raise UnknownPixels(
            f"mode {image.mode!r}, {UNKNOWN[image.mode]}, which does not define black and white: "
            f"{WHAT_TO_DO}"
        )
    if image.mode == "La":  # PIL has no direct conversion
        return image.convert("LA").convert("RGBA")
    if image.mode == "RGBA":  # not copied: an image can have 200 MB
        return image
    if image.mode in WITH_ALPHA or (image.mode == "P" and stored.transparent is not None):
        return image.convert("RGBA")
    if image.mode not in PLAIN:
        raise UnknownPixels(f"mode {image.mode!r}, which is not supported: {WHAT_TO_DO}")
    return image.convert("RGB")


def _without_colour(image: Image.Image, seen: Image.Image, stored: PixelStorage) -> Image.Image:
    """Add an alpha band to ``seen`` in which one colour of ``image`` is transparent.

    Raises:
        UnknownPixels: the colour has 16 bits per channel, but PIL kept only 8 bits of the pixels.
    """
    if stored.wide and image.mode not in GREY_SIXTEEN:
        raise UnknownPixels(
            f"mode {image.mode!r} with 16 bits per channel and one transparent colour, which "
            f"8 bits cannot represent exactly: {WHAT_TO_DO}"
        )
    numbers = np.asarray(image.convert("L") if image.mode == "1" else image)
    colour = np.asarray(stored.transparent).reshape(-1)
    shown = (numbers.reshape(*numbers.shape[:2], -1) != colour).any(axis=2)
    seen.putalpha(Image.fromarray(shown.astype(np.uint8) * OPAQUE))
    return seen


def _upright(image: Image.Image) -> tuple[Image.Image, frozenset[Treatment]]:
    """Return an image turned upright by its EXIF orientation; a damaged EXIF block is ignored."""
    try:
        method = ORIENTATIONS.get(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:  # noqa: BLE001 - as in read
        method = None
    if method is None:
        return image, frozenset()
    return image.transpose(method), frozenset({Treatment.TURNED})
