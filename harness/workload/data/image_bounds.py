"""Open an untrusted image file, with limits on format, bytes, pixels and scans."""

import io
import re
from pathlib import Path

from PIL import Image, TiffImagePlugin

from bsrbench.harness.files import MIB, read_bytes

# Formats that data sets usually have, and that torchvision's ImageFolder reads. PPM includes PBM
# and PGM. PIL supports many more formats; for EPS it would start Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_BYTES = 128 * MIB
# As many as a good camera has. Decoding needs up to 16 bytes per pixel: 0.8 GB.
MOST_PIXELS = 50_000_000
# Each scan of a progressive JPEG processes all pixels, even if the scan has few bytes. Most files
# have about ten scans.
MOST_SCANS = 1_000
MOST_SCANNED = 20 * MOST_PIXELS  # pixels in all scans together
JPEG = b"\xff\xd8\xff"
# Markers with a length field. Restart markers inside a scan and the start of the file have none.
MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])")
SCAN, END = b"\xda", b"\xd9"


class OutOfBounds(ValueError):  # noqa: N818 - becomes the reason of an image that does not decode
    """An image that would need more memory or time than a normal image of a data set."""


def open_image(file: Path) -> Image.Image:
    """Open an image without decoding its pixels; of several frames, the first is used.

    Raises:
        OutOfBounds: the image has more pixels or scans than the limits allow.
        Exception: PIL's readers raise errors of many types for damaged files.
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
        raise OutOfBounds(f"it has {scans} scans, expected about ten")
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # tiles can be larger than the image
        sides = (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
        _require_pixels(*(int(image.tag_v2.get(side, 1)) for side in sides))


def _require_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise OutOfBounds(f"it has {width:,} x {height:,} pixels, expected {MOST_PIXELS:,} at most")


def _scans(jpeg: bytes) -> int:
    """Return the number of scans of a JPEG file; stop counting one above the limit."""
    count, place = 0, len(JPEG) - 1
    while count <= MOST_SCANS and (marker := MARKER.search(jpeg, place)) and marker[1] != END:
        count += marker[1] == SCAN
        place = marker.end() + max(int.from_bytes(jpeg[marker.end() : marker.end() + 2]), 2)
    return count
