"""Read the arrays of an untrusted ``.npz`` file: no pickles, and a limit on unpacked bytes."""

import math
import os
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bsrbench.harness.errors import BadInput, shortened

GIB = 2**30
MOST_MEMBERS = 10_000  # arrays; the largest vision transformers have a thousand
MOST_LISTED = 4 * 2**20  # bytes of an archive's list of members
# Records at the end of an archive: the signature, and the position of the length of the list of
# members in the record. The second record is for large archives.
ENDS = ((b"PK\5\6", slice(12, 16)), (b"PK\6\6", slice(40, 48)))
TAIL = 2**16 + 22 + 20 + 56  # bytes that contain these records: the longest comment, and theirs
# Kinds of numpy dtypes that need no pickle and have no fields.
REAL_NUMBERS = "biuf"
NUMBERS_AND_TEXTS = REAL_NUMBERS + "cUSMm"


def require_list(file: Path) -> None:
    """Check that an archive's list of members is not too long.

    Raises:
        ValueError: the list is longer than in any normal file; to read it could need a gigabyte.
        OSError: the file cannot be read.
    """
    with file.open("rb") as opened:
        opened.seek(max(0, opened.seek(0, os.SEEK_END) - TAIL))
        tail = opened.read(TAIL)
    for sign, length in ENDS:
        for record in re.finditer(re.escape(sign), tail):
            listed = int.from_bytes(tail[record.start() :][length], "little")
            if listed > MOST_LISTED:
                raise ValueError(
                    f"its list of members has {listed:,} bytes, expected {MOST_LISTED:,} at most"
                )


def unpacked_bytes(file: Path, kinds: str) -> int:
    """Return how many bytes the arrays of a file need in memory, without reading their values.

    For each array, the larger size counts: by the list of members, or by the array's header.

    Args:
        file: an archive.
        kinds: the allowed kinds of numpy dtypes.

    Raises:
        ValueError: a member is not an array of these kinds, or two members have the same name.
        Exception: numpy and zipfile raise errors of many types for damaged files.
    """
    require_list(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"it has {len(members):,} arrays, expected {MOST_MEMBERS:,} at most")
        if len(names) < len(members):
            raise ValueError("two of its arrays have the same name")
        return sum(_array_bytes(archive, member, kinds) for member in members)


def _array_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kinds: str) -> int:
    """Return the larger size of an array in bytes: by the archive's list, or by its header."""
    with archive.open(member) as opened:
        version = np.lib.format.read_magic(opened)
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, kind = read(opened)
    if kind.kind not in kinds:
        raise ValueError(f"{shortened(member.filename)!r} is an array of {shortened(str(kind))}")
    if any(length < 0 for length in shape):
        raise ValueError(f"{shortened(member.filename)!r} has a dimension of {min(shape)}")
    return max(member.file_size, math.prod(shape) * kind.itemsize)


def require_bytes(file: Path, most: int, what: str, kinds: str = NUMBERS_AND_TEXTS) -> None:
    """Check that the unpacked arrays of a file are not too large: a small file can hold terabytes.

    Args:
        file: an archive.
        most: the limit in bytes.
        what: the limit in words, for the message: "the memory of this machine (8.0 GiB)".
        kinds: the allowed kinds of numpy dtypes.

    Raises:
        BadInput: the arrays are larger than the limit.
        Exception: numpy and zipfile raise errors of many types for damaged files.
    """
    if (size := unpacked_bytes(file, kinds)) > most:
        raise BadInput(f"{file.name} has {size / GIB:.1f} GiB unpacked, more than {what}")


def arrays(file: Path, keys: Collection[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the arrays with the given names, and the names of all arrays.

    Raises:
        Exception: numpy and zipfile raise errors of many types for damaged files.
    """
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        return {key: archive[key] for key in keys if key in archive}, list(archive)


def reason(error: Exception) -> str:
    """Return what is wrong with a file, for a message."""
    return shortened(str(error) or type(error).__name__)
