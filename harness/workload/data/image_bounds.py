"""Open an untrusted image file, with limits on format, bytes, pixels and scans."""

import io
import re
from pathlib import Path

from PIL import Image, TiffImagePlugin

from bsrbench.harness.files import MIB, read_bytes

# What a data set is expected to have, and torchvision's ImageFolder reads; PPM is PBM and PGM, too.
# PIL knows many more: of EPS it starts Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_BYTES = 128 * MIB
# As a good camera's. While an image is decoded a pixel takes up to 16 bytes: 0.8 GB.
MOST_PIXELS = 50_000_000
# A progressive JPEG goes over all pixels in each scan, however few bytes that has; most have ten.
MOST_SCANS = 1_000
MOST_SCANNED = 20 * MOST_PIXELS  # in all scans together
JPEG = b"\xff\xd8\xff"
# But restarts, which stand in a scan, and the start of the file: they have no length.
MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])")
SCAN, END = b"\xda", b"\xd9"


class OutOfBounds(ValueError):  # noqa: N818 - becomes the reason of an image that does not decode
    """An image that would take more memory or time than any of a data set."""


def open_image(file: Path) -> Image.Image:
    """Return an image, of which nothing is decoded yet; of several frames the first.

    Raises:
        OutOfBounds: it has more pixels or scans than are decoded.
        Exception: PIL's readers raise whatever a damaged file leads them to.
    """
    content = read_bytes(file, MOST_BYTES)
    scans = _scans(content) if content.startswith(JPEG) else 1
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    try:
        _require_bounds(image, scans)
    except BaseException:
        image.close()
        raise
    return image


def _require_bounds(image: Image.Image, scans: int) -> None:
    _require_pixels(*image.size)
    if scans > MOST_SCANS or scans * image.width * image.height > MOST_SCANNED:
        raise OutOfBounds(f"it has {scans} scans, expected ten or so")
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # its tiles may be larger than it is
        sides = (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
        _require_pixels(*(int(image.tag_v2.get(side, 1)) for side in sides))


def _require_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise OutOfBounds(f"it has {width:,} x {height:,} pixels, expected {MOST_PIXELS:,} at most")


def _scans(jpeg: bytes) -> int:
    """Return how many scans a JPEG file has, up to one more than are decoded."""
    count, place = 0, len(JPEG) - 1
    while count <= MOST_SCANS and (found := MARKER.search(jpeg, place)) and found[1] != END:
        count += found[1] == SCAN
        place = found.end() + max(int.from_bytes(jpeg[found.end() : found.end() + 2]), 2)
    return count
