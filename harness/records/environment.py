"""Describe where a run happens: machine, versions, commit. Does not import torch."""

import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from bsrbench.harness.records.environment_variables import that_disturb_times
from bsrbench.harness.records.trial_environment import Circumstances, Environment, Machine

PACKAGE = Path(__file__).absolute().parents[2]  # not resolved: the installed folders are links
ROOT = PACKAGE.parent
VERSIONS = (
    *("bsrbench", "torch", "timm", "peft", "numpy", "scikit-learn", "pillow", "torchvision"),
)
SOURCES = (".py", ".txt")


def describe_run() -> Environment:
    """Return the environment that all trials of a run share; call it once, before the first one."""
    commit, dirty = commit_and_dirty(ROOT)
    return Environment(
        machine_id=machine_id(),
        machine=describe_machine(),
        versions=installed_versions(),
        commit=commit,
        tree_dirty=dirty,
    )


def circumstances_of_run() -> Circumstances:
    """Return the circumstances that all trials of a run share."""
    command = shlex.join(["bsrbench", *map(without_place, sys.argv[1:])])
    return Circumstances(command=command, variables=that_disturb_times())


def without_place(argument: str) -> str:
    """Return a command-line argument for a record; an absolute path is reduced to its last name."""
    option, sign, value = argument.partition("=")
    if sign and value.startswith("/"):
        return f"{option}=.../{Path(value).name}"
    return f".../{Path(argument).name}" if argument.startswith("/") else argument


def describe_machine() -> Machine:
    """Return processor, usable cores, memory and system of this machine."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()}",
        instruction_sets=_instruction_sets(),
    )


def machine_id() -> str:
    """Return a hash that identifies this machine without naming it."""
    try:
        own = Path("/etc/machine-id").read_text(encoding="utf-8").strip()
    except OSError:
        own = platform.node()
    described = describe_machine()
    text = "|".join([own, str(described.processor), str(described.cores)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers can depend on."""
    versions = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def source_hash() -> str:
    """Return 8 hex digits of a hash of the harness's source, without the methods."""
    files = sorted(path for path in (PACKAGE / "harness").rglob("*") if path.suffix in SOURCES)
    text = b"\0".join(file.read_bytes() for file in files)
    return hashlib.sha256(text).hexdigest()[:8]


def commit_and_dirty(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout at ``root`` and whether it was changed since.

    Files under ``results/`` do not count as changes. Both are ``None`` outside a checkout.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    changed = _git(root, "status", "--porcelain", "--", ".", ":(exclude)results")
    return commit, bool(changed)


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _instruction_sets() -> tuple[str, ...]:
    """Return the CPU's vector extensions that affect the speed of fp32 and bf16."""
    known = {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16"}
    return tuple(sorted(known & set((_cpuinfo("flags") or _cpuinfo("Features")).split())))
