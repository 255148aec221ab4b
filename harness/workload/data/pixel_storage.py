"""How an image file stores its pixels, beyond what PIL's mode of the image says."""

from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

SIXTEEN = 16  # bits
UPRIGHT = 1  # EXIF's number for the upright orientation
GREY_SIXTEEN = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
WIDE = ";16"  # part of PIL's names for the layouts of 16-bit pixels in a file
BYTE = 255
PNM = "PPM"  # PIL's format name for PBM, PGM and PPM
WHITE_IS_ZERO = 0  # TIFF's photometric interpretation
# PIL scales grey values of 2 or 4 bits to 0..255, but does not scale the transparent colour.
SPREAD = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True)
class PixelStorage:
    """How a file stores its pixels.

    Attributes:
        wide: whether there are more than eight bits per channel.
        bits: number of used bits of wide grey pixels.
        inverted: whether 0 is white; PIL does not invert wide pixels.
        scaled: whether integers of mode ``I`` range from 0 to 65535; PIL scales a PGM file so.
        transparent: the transparent colour, in the values of PIL's pixels, if there is one.
        turned: whether PIL rotates the pixels by the EXIF orientation itself when it loads them;
            afterwards PIL does not report the orientation any more.
    """

    wide: bool = False
    bits: int = SIXTEEN
    inverted: bool = False
    scaled: bool = False
    transparent: int | tuple[int, ...] | bytes | None = None
    turned: bool = False


def how_stored(image: Image.Image) -> PixelStorage:
    """Return how the file of an image stores its pixels; call this before they are loaded."""
    layouts = [_listed(tile[3]) for tile in getattr(image, "tile", ())]
    grey = image.mode in GREY_SIXTEEN
    scaled = image.mode == "I" and image.format == PNM
    wide = any(WIDE in str(name) or _largest(image, rest) > BYTE for name, *rest in layouts)
    tags: Any = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode == "L" and layouts:
        key *= SPREAD.get(layouts[0][0], 1)
    return PixelStorage(
        wide=grey or scaled or (wide and image.mode != "I"),
        bits=tags.get(TiffImagePlugin.BITSPERSAMPLE, (SIXTEEN,))[0] if grey else SIXTEEN,
        inverted=grey and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO,
        scaled=scaled,
        transparent=key,
        turned=tags.get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT,
    )


def _listed(arguments: object) -> tuple[Any, ...]:
    """Return a tile's arguments as a tuple: PIL's name of the pixel layout, then others."""
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _largest(image: Image.Image, arguments: list[Any]) -> int:
    """Return the largest possible pixel value of a PNM file; 0 for other formats."""
    return int(arguments[0]) if image.format == PNM and arguments else 0
