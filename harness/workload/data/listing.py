"""Find the image files of a data set in a folder, and the files that do not belong to it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from bsrbench.harness.workload.data.decodable import some

# Files and folders that operating systems and programs create, in lower case. Names that begin
# with a dot are hidden, too.
LEAVINGS = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "$recycle.bin"),
        *("system volume information", "lost+found", "__pycache__"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    }
)
# PIL formats that are not pictures, and endings of picture formats that PIL does not know.
NO_PICTURES = frozenset({"BUFR", "GRIB", "HDF5", "MPEG"})
FOREIGN_PICTURES = frozenset({".heic", ".heif", ".svg", ".dng"})


@dataclass(frozen=True)
class Listing:
    """The image files below a folder.

    Attributes:
        folder: the folder.
        images: the images to read, sorted.
        hidden: images in hidden folders, or with hidden names.
        other: pictures in formats that are not read.
    """

    folder: Path
    images: tuple[Path, ...]
    hidden: tuple[Path, ...]
    other: tuple[Path, ...]

    def notes(self, used: Iterable[Path]) -> tuple[str, ...]:
        """Return notes for a reader of the results: which images were left out.

        Args:
            used: images that are in a split, or do not decode.
        """
        outside = sorted(set(self.images) - set(used))
        files_by_reason = {
            "they are hidden or in a hidden folder": self.hidden,
            f"their format is not among {', '.join(IMG_EXTENSIONS)}": self.other,
            "they are not in the folder of a class": outside,
        }
        return tuple(
            f"images left out because {why}: {len(files)} "
            f"({some([str(file.relative_to(self.folder)) for file in files])})"
            for why, files in files_by_reason.items()
            if files
        )


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden and not part of a data set."""
    return name.startswith(".") or name.lower() in LEAVINGS


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)
    )


def list_images(folder: Path) -> Listing:
    """Return the image files below a folder, at every level."""
    listed: dict[str, list[Path]] = {"images": [], "hidden": [], "other": []}
    others = _other_endings()
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder)
        hides = any(map(is_hidden, below.parts))
        for name in names:
            ending = Path(name).suffix.lower()
            kind = "hidden" if hides or is_hidden(name) else "images"
            if ending in IMG_EXTENSIONS:
                listed[kind].append(folder / below / name)
            elif ending in others and kind == "images":
                listed["other"].append(folder / below / name)
    return Listing(folder, *(tuple(sorted(listed[kind])) for kind in ("images", "hidden", "other")))


def _other_endings() -> frozenset[str]:
    """Return the file name endings of pictures that are not read."""
    known = Image.registered_extensions().items()
    opened = {ending for ending, form in known if form in Image.OPEN and form not in NO_PICTURES}
    return (FOREIGN_PICTURES | opened) - set(IMG_EXTENSIONS)
