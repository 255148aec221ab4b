"""Read the tensors of an untrusted checkpoint: only tensors, with size limits."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bsrbench.harness.errors import BadInput, shortened
from bsrbench.harness.files import MIB
from bsrbench.harness.workload import npz

WRAPPERS = ("model", "state_dict")  # under which checkpoints keep their tensors
SAFETENSORS = ".safetensors"
ARCHIVE = b"PK\3\4"  # begins what torch.save writes since version 1.6
STORAGES = "/data/"  # in the names of an archive's members that are numbers
# Of a checkpoint all but the numbers. That of a model with a thousand tensors has 0.2 MB.
MOST_STRUCTURE = 4 * MIB
LENGTH_BYTES = 8  # of a safetensors file's header, before it


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a checkpoint that holds nothing else.

    They have any shape, and take as many bytes as the file has, or fewer.

    Raises:
        BadInput: the file cannot be read, or holds something else than plain tensors by name.
    """
    try:
        content = _safetensors(file) if file.suffix == SAFETENSORS else _checkpoint(file)
    except pickle.UnpicklingError as error:
        # torch's own words go on to say how the file could be run all the same.
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f": it names {shortened(named[1])}" if named else ""
        raise BadInput(
            f"{file.name} is refused: it is damaged, or a pickle of more than tensors{what}; save "
            "the state dict alone"
        ) from error
    except Exception as error:
        # torch's readers raise whatever a damaged file leads them to.
        said = shortened((str(error) or type(error).__name__).partition(". ")[0])
        raise BadInput(f"{file.name}: not weights that can be read ({said})") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise BadInput(f"{file.name}: expected tensors by name, at the top or below {WRAPPERS}")
    faults = (_what_is_wrong(key, value) for key, value in content.items())
    if wrong := next(filter(None, faults), "") or _what_lacks_numbers(file, content):
        raise BadInput(f"{file.name}: {wrong}")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _safetensors(file: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a safetensors file, whose header is looked at before."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        if length > MOST_STRUCTURE:
            raise ValueError(f"its header has {length:,} bytes, expected {MOST_STRUCTURE:,}")
    return load_file(file)


def _checkpoint(file: Path) -> Any:
    with file.open("rb") as opened:
        archive = opened.read(len(ARCHIVE)) == ARCHIVE
    if archive:
        _require_structure(file)
    # Not mapped: torch compares then how many numbers a part has with how many it is said to have.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse tensors and TorchScript, which are refused
        return torch.load(file, map_location="cpu", weights_only=True, mmap=False)


def _require_structure(file: Path) -> None:
    """Check what torch reads of an archive before it looks at any number.

    Raises:
        ValueError: it is more than a checkpoint has, or packed, as torch.save writes none.
    """
    npz.require_list(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two of its parts have one name")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its parts are compressed, as torch.save never writes them")
    structure = sum(member.file_size for member in members if STORAGES not in member.filename)
    if structure > MOST_STRUCTURE:
        raise ValueError(
            f"beside its numbers it has {structure:,} bytes, expected {MOST_STRUCTURE:,} at most"
        )


def _what_lacks_numbers(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Return why tensors cannot have come from an archive; empty where they can.

    Some versions of torch (2.9) take the number of bytes that an archive states, and read on
    beyond a part that has fewer.
    """
    if file.suffix == SAFETENSORS or not zipfile.is_zipfile(file):
        return ""
    with zipfile.ZipFile(file) as archive:
        there = sum(m.file_size for m in archive.infolist() if STORAGES in m.filename)
    storages = (tensor.untyped_storage() for tensor in tensors.values())
    stated = sum({s.data_ptr(): s.nbytes() for s in storages}.values())
    if stated <= there:
        return ""
    return (
        f"not weights that can be read (its tensors state {stated:,} bytes, which does not match "
        f"expected size: its parts have {there:,})"
    )


def _what_is_wrong(key: object, value: Tensor) -> str:
    """Return why a tensor cannot be a weight; empty where it can."""
    if not isinstance(key, str):
        name = shortened(repr(key)) if isinstance(key, int | float | bytes) else "no text"
        return f"a tensor's name is {name}, expected names of parameters, which are texts"
    what = f"the tensor {shortened(key)!r}"
    if value.layout != torch.strided or value.is_nested:
        return f"{what} is {'nested' if value.is_nested else 'sparse'}, expected a dense one"
    if value.device.type != "cpu":
        return f"{what} is on the device {value.device.type}, where it has no numbers"
    if value.is_quantized or value.is_complex():
        return f"{what} is {value.dtype}, expected plain real numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return (
            f"the shape of {what} is {list(value.shape)}, which is more numbers than the file has "
            "for it: save a contiguous copy"
        )
    return ""
