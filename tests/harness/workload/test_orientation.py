"""Orientation in EXIF: an image is seen as its camera was held."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from bsrbench.harness.workload.data.pixels import Treatment, read

# A picture of six pixels as it should be seen, and how a camera held so has stored it
# (EXIF 2.32, 4.6.4, tag 274: where the stored first row and first column lie in the scene).
SEEN = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8) * 40
HELD = {
    1: SEEN,
    2: SEEN[:, ::-1],
    3: SEEN[::-1, ::-1],
    4: SEEN[::-1],
    5: SEEN.T,
    6: np.rot90(SEEN),
    7: SEEN[::-1, ::-1].T,
    8: np.rot90(SEEN, -1),
}


@pytest.mark.parametrize("orientation", HELD)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_an_image_is_turned_as_its_camera_was_held(mode, form, orientation, tmp_path):
    if mode == "I;16" and form == "WEBP":
        mode = "RGBA"  # there are no 16 bits in WebP
    stored = np.ascontiguousarray(HELD[orientation])
    wide = Image.fromarray(stored.astype(np.uint16) << 8)
    image = wide if mode == "I;16" else Image.fromarray(stored).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(tmp_path / "x", form, exif=exif, lossless=True)
    found = read(tmp_path / "x")

    assert np.array_equal(found.image.numpy(), np.stack([SEEN] * 3))
    assert (Treatment.TURNED in found.treatments) == (orientation != 1)


def test_a_photograph_of_a_camera_is_turned(tmp_path):
    """JPEG, whose blocks of 8 pixels hold one shade each."""
    stored = Image.fromarray(HELD[6]).resize((16, 24), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored.save(tmp_path / "x.jpg", quality=100, exif=exif)
    found = read(tmp_path / "x.jpg").image[0, ::8, ::8].numpy().astype(int)

    assert found.shape == SEEN.shape
    assert np.abs(found - SEEN).max() <= 2


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"nonsense"])
def test_a_damaged_exif_block_leaves_an_image_as_it_is(exif, tmp_path):
    image = Image.fromarray(SEEN)
    image.save(tmp_path / "x.png", exif=exif)
    found = read(tmp_path / "x.png")

    assert np.array_equal(found.image[0].numpy(), SEEN)
    assert found.treatments == frozenset()
