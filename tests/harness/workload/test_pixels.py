"""Each mode that PIL opens becomes the right eight bits of red, green and blue, or a message."""

import colorsys
import struct

import numpy as np
import pytest
from PIL import Image

from bsrbench.harness.workload.data.pixel_storage import PixelStorage
from bsrbench.harness.workload.data.pixels import Treatment, UnknownPixels, in_rgb

WIDE = PixelStorage(wide=True)
NO, SEEN_THROUGH = frozenset(), frozenset({Treatment.LAID_OVER_WHITE})
NARROW = frozenset({Treatment.NARROWED})


def over_white(colour, alpha):
    """Return what is seen of a colour on white paper."""
    return tuple(round((c * alpha + 255 * (255 - alpha)) / 255) for c in colour)


def of_lab(lightness, a, b):
    """Return sRGB of a CIE L*a*b* colour under D50, by the formulas of CIE 15 and IEC 61966-2-1."""
    fy = (lightness + 16) / 116
    x, y, z = (
        white * (f**3 if f > 6 / 29 else 3 * (6 / 29) ** 2 * (f - 4 / 29))
        for white, f in zip((0.9642, 1.0, 0.8249), (fy + a / 500, fy, fy - b / 200), strict=True)
    )
    # Linear sRGB of XYZ under D50 (Bradford), as Lindbloom has it.
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(np.array(matrix) @ [x, y, z], 0, 1)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(int(c) for c in np.rint(255 * gamma))


def grey(value):
    return (value, value, value)


def one_pixel(mode, value):
    """Return an image of one pixel; where PIL's names for numbers fail, from an array."""
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (1, 1), struct.pack(">H" if "B" in mode else "<H", value))
    return Image.new(mode, (1, 1), value)


def with_palette(mode, value):
    image = Image.new(mode, (1, 1))
    image.putpalette([9, 9, 9, 200, 100, 50])
    image.putpixel((0, 0), value)
    return image


# Mode by mode: an image, how its file kept it, the colours by arithmetic, what was done, and by how
# much rounding may differ. YCbCr by BT.601 as JPEG has it; HSV by colorsys; CMYK by (1 - C)(1 - K).
CASES = {
    "1": (one_pixel("1", 1), PixelStorage(), grey(255), NO, 0),
    "L": (one_pixel("L", 77), PixelStorage(), grey(77), NO, 0),
    "P": (with_palette("P", 1), PixelStorage(), (200, 100, 50), NO, 0),
    "PA": (
        with_palette("PA", (1, 128)),
        PixelStorage(),
        over_white((200, 100, 50), 128),
        SEEN_THROUGH,
        1,
    ),
    "RGB": (one_pixel("RGB", (10, 20, 30)), PixelStorage(), (10, 20, 30), NO, 0),
    "RGBX": (one_pixel("RGBX", (10, 20, 30, 0)), PixelStorage(), (10, 20, 30), NO, 0),
    "RGBA": (
        *(one_pixel("RGBA", (10, 20, 30, 64)), PixelStorage()),
        *(over_white((10, 20, 30), 64), SEEN_THROUGH, 1),
    ),
    # Premultiplied by 128 / 255: half of what is seen is this colour, half is white.
    "RGBa": (one_pixel("RGBa", (50, 25, 0, 128)), PixelStorage(), (177, 152, 127), SEEN_THROUGH, 2),
    "LA": (one_pixel("LA", (100, 51)), PixelStorage(), over_white(grey(100), 51), SEEN_THROUGH, 1),
    "La": (one_pixel("La", (50, 128)), PixelStorage(), grey(177), SEEN_THROUGH, 2),
    "CMYK": (
        *(one_pixel("CMYK", (51, 102, 0, 51)), PixelStorage()),
        # (1 - 0.2) 0.8 = 0.64, (1 - 0.4) 0.8 = 0.48, 0.8, of 255
        *((163, 122, 204), frozenset({Treatment.WITHOUT_PROFILE}), 1),
    ),
    "YCbCr": (
        *(one_pixel("YCbCr", (100, 90, 160)), PixelStorage()),
        # 100 + 1.402 * 32, 100 - 0.344136 * -38 - 0.714136 * 32, 100 + 1.772 * -38
        *((145, 90, 33), NO, 1),
    ),
    "HSV": (
        *(one_pixel("HSV", (30, 200, 150)), PixelStorage()),
        *(
            tuple(round(255 * c) for c in colorsys.hsv_to_rgb(30 / 255, 200 / 255, 150 / 255)),
            NO,
            2,
        ),
    ),
    # 8 bits of L* go to 100; those of a* and b* lie 128 above.
    "LAB": (
        *(one_pixel("LAB", (128, 148, 108)), PixelStorage()),
        *(of_lab(128 / 255 * 100, 20, -20), NO, 2),
    ),
    **{
        mode: (one_pixel(mode, 0xABCD), WIDE, grey(0xAB), NARROW, 0)
        for mode in ("I;16", "I;16B", "I;16L", "I;16N")
    },
    "I": (one_pixel("I", 1000), PixelStorage(), "mode 'I', 32-bit integers", None, 0),
    "F": (one_pixel("F", 0.5), PixelStorage(), "mode 'F', 32-bit floating-point numbers", None, 0),
}


def test_every_mode_of_pil_has_its_case():
    """A mode that a later PIL adds fails here, until somebody has said what is right for it."""
    assert set(Image.MODES) == set(CASES)


@pytest.mark.parametrize("mode", CASES)
def test_a_mode_becomes_the_right_colours_or_a_message(mode):
    image, stored, expected, done, tolerance = CASES[mode]
    assert image.mode == mode
    if isinstance(expected, str):
        with pytest.raises(UnknownPixels, match=f"{expected}.*: save it with 8 bits per channel"):
            in_rgb(image, stored)
        return
    found, treatments = in_rgb(image, stored)

    assert found.mode == "RGB"
    assert np.abs(np.subtract(found.getpixel((0, 0)), expected)).max() <= tolerance
    assert treatments == done


def test_a_mode_that_nobody_has_heard_of_is_a_message():
    image = Image.new("RGB", (1, 1))
    image._mode = "XYZ"

    with pytest.raises(
        UnknownPixels, match="mode 'XYZ', which is not supported: save it with 8 bits"
    ):
        in_rgb(image, PixelStorage())


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_what_is_opaque_throughout_is_left_as_it_is(mode):
    value = {"LA": (60, 255), "La": (60, 255), "PA": (1, 255)}.get(mode, (60, 70, 80, 255))
    image = with_palette(mode, value) if mode == "PA" else one_pixel(mode, value)
    expected = {"LA": grey(60), "La": grey(60), "PA": (200, 100, 50)}.get(mode, (60, 70, 80))
    found, treatments = in_rgb(image, PixelStorage())

    assert (found.getpixel((0, 0)), treatments) == (expected, NO)
