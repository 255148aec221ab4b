"""How an image file keeps its pixels, as far as its mode alone does not say it."""

from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

SIXTEEN = 16  # bits
UPRIGHT = 1  # as EXIF numbers how a camera was held
GREY_SIXTEEN = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
WIDE = ";16"  # in PIL's names for how pixels of 16 bits lie in a file
BYTE = 255
PNM = "PPM"  # as PIL calls PBM, PGM and PPM
WHITE_IS_ZERO = 0  # TIFF's photometric interpretation
# PIL spreads grey of so few bits over 0 to 255, and leaves the transparent colour as it was.
SPREAD = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True)
class PixelStorage:
    """How a file keeps its pixels.

    Attributes:
        wide: more than eight bits per channel.
        bits: of grey pixels that are wide, those that are used.
        inverted: 0 is white, which PIL does not undo in wide pixels.
        scaled: integers of mode ``I`` go from 0 to 65535, as PIL makes them of a PGM file's.
        transparent: the one colour that is transparent, as PIL's pixels have it.
        turned: PIL itself turns its pixels as EXIF says, and forgets that it did.
    """

    wide: bool = False
    bits: int = SIXTEEN
    inverted: bool = False
    scaled: bool = False
    transparent: int | tuple[int, ...] | bytes | None = None
    turned: bool = False


def how_stored(image: Image.Image) -> PixelStorage:
    """Return how the file of an image keeps its pixels; before they are loaded."""
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
    """Return a tile's arguments: PIL's name for how pixels lie in it, and others."""
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _largest(image: Image.Image, arguments: list[Any]) -> int:
    """Return the largest value of a PNM file's pixels; of other formats nothing."""
    return int(arguments[0]) if image.format == PNM and arguments else 0
