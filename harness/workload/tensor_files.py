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

WRAPPERS = ("model", "state_dict")  # keys under which checkpoints store their tensors
SAFETENSORS = ".safetensors"
ARCHIVE = b"PK\3\4"  # first bytes of the files that torch.save writes since version 1.6
STORAGES = "/data/"  # part of the names of an archive's members that contain tensor values
# Limit for all bytes of a checkpoint except tensor values; a thousand tensors need 0.2 MB.
MOST_STRUCTURE = 4 * MIB
LENGTH_BYTES = 8  # a safetensors file begins with the length of its header


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a checkpoint that contains only tensors.

    The tensors have any shape. They need at most as many bytes as the file has.

    Raises:
        BadInput: the file cannot be read, or contains something else than plain tensors by name.
    """
    try:
        content = _safetensors(file) if file.suffix == SAFETENSORS else _checkpoint(file)
    except pickle.UnpicklingError as error:
        # torch's own message is not shown, because it explains how to load the file in spite of it.
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" (it names {shortened(named[1])})" if named else ""
        raise BadInput(
            f"{file.name} is refused: it is damaged, or its pickle contains more than tensors{what}"
            "; save only the state dict"
        ) from error
    except Exception as error:
        # torch's readers raise errors of many types for damaged files.
        message = shortened((str(error) or type(error).__name__).partition(". ")[0])
        raise BadInput(f"{file.name} cannot be read as weights ({message})") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise BadInput(
            f"{file.name}: expected tensors by name, at the top or under one of the keys {WRAPPERS}"
        )
    faults = (_what_is_wrong(key, value) for key, value in content.items())
    if wrong := next(filter(None, faults), "") or _what_lacks_numbers(file, content):
        raise BadInput(f"{file.name}: {wrong}")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _safetensors(file: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a safetensors file; first check the length of its header."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        if length > MOST_STRUCTURE:
            raise ValueError(
                f"its header has {length:,} bytes, expected {MOST_STRUCTURE:,} at most"
            )
    return load_file(file)


def _checkpoint(file: Path) -> Any:
    with file.open("rb") as opened:
        archive = opened.read(len(ARCHIVE)) == ARCHIVE
    if archive:
        _require_structure(file)
    # Without mmap, torch compares the size of each part with the size that the pickle states.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sparse tensors and TorchScript, which are refused
        return torch.load(file, map_location="cpu", weights_only=True, mmap=False)


def _require_structure(file: Path) -> None:
    """Check the parts of an archive that torch reads before any tensor values.

    Raises:
        ValueError: they are larger than in any normal checkpoint, or have the same name, or a part
            is compressed, which torch.save never does.
    """
    npz.require_list(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two of its parts have the same name")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its parts are compressed, which torch.save never does")
    structure = sum(member.file_size for member in members if STORAGES not in member.filename)
    if structure > MOST_STRUCTURE:
        raise ValueError(
            f"without tensor values it has {structure:,} bytes, expected {MOST_STRUCTURE:,} at most"
        )


def _what_lacks_numbers(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Return an error if tensors have more bytes than the parts of their archive; otherwise empty.

    Some versions of torch (2.9) use the number of bytes that an archive states. If a part has
    fewer bytes, they read beyond its end.
    """
    if file.suffix == SAFETENSORS or not zipfile.is_zipfile(file):
        return ""
    with zipfile.ZipFile(file) as archive:
        there = sum(m.file_size for m in archive.infolist() if STORAGES in m.filename)
    storages = (tensor.untyped_storage() for tensor in tensors.values())
    stated = sum({s.data_ptr(): s.nbytes() for s in storages}.values())
    if stated <= there:
        return ""
    return f"its tensors state {stated:,} bytes, but its parts have only {there:,} bytes"


def _what_is_wrong(key: object, value: Tensor) -> str:
    """Return why a tensor cannot be a weight; an empty text if it can."""
    if not isinstance(key, str):
        name = shortened(repr(key)) if isinstance(key, int | float | bytes) else "not a text"
        return f"a tensor's name is {name}, expected the name of a parameter as a text"
    what = f"the tensor {shortened(key)!r}"
    if value.layout != torch.strided or value.is_nested:
        return f"{what} is {'nested' if value.is_nested else 'sparse'}, expected a dense one"
    if value.device.type != "cpu":
        return f"{what} is on the device {value.device.type}, expected the CPU"
    if value.is_quantized or value.is_complex():
        return f"{what} is {value.dtype}, expected plain real numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return (
            f"the shape of {what} is {list(value.shape)}, which needs more values than the file "
            "has for it: save a contiguous copy"
        )
    return ""
