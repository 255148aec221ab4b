"""The source that measures: which files decide the numbers of a trial, and their hash."""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

HARNESS = Path(__file__).absolute().parents[1]
# A trial's passes, what is derived from them, and how visits of the clock take turns.
ROOTS = ("trial/trial_passes", "trial/record_assembly", "launch/round_group")
# Shapes of values, messages and names of metrics: what they say stands in the record itself.
CARRY_VALUES = frozenset(
    {
        *("errors", "files", "spec/frozen_data", "spec/multitask", "spec/recipe"),
        "spec/trial_spec",
        *("records/environment", "records/environment_variables", "records/metrics"),
        *(
            "records/metric_bounds",
            "records/pass_readings",
            "records/record_key",
            "records/remarks",
            "records/sidecar",
            "records/trial_record",
            "trial/pass_result",
        ),
    }
)


@functools.cache
def measuring_hash() -> str:
    """Return 8 hex digits of a hash of the text of the files that measure."""
    text = b"\0".join(path.read_bytes() for path in measuring_files())
    return hashlib.sha256(text).hexdigest()[:8]


def measuring_files() -> list[Path]:
    """Return the files that decide numbers, sorted: the roots and what they import, step by step.

    Files that only carry values are left out, and so is what only these import.
    """
    found: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in CARRY_VALUES:
            found.add(name)
            waiting += _imported(_file(name))
    return sorted(_file(name) for name in found)


def _imported(path: Path) -> Iterator[str]:
    """Yield the modules of the harness that a file imports, as paths without their ending."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        ours = (
            name.removeprefix("bsrbench.harness.")
            for name in names
            if name.startswith("bsrbench.harness.")
        )
        yield from (name for name in (n.replace(".", "/") for n in ours) if _is_module(name))


def _is_module(name: str) -> bool:
    return _file(name).is_file()


def _file(name: str) -> Path:
    """Return the file of a module named by its path; of a package, its first file."""
    folder = HARNESS / name
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
