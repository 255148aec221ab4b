"""The hash of the measuring code: the source files that affect the numbers of a trial."""

import functools
from pathlib import Path

from bsrbench.harness.source_files import files_behind, hash_of_files

PREFIX = "bsrbench.harness."
HARNESS = Path(__file__).absolute().parents[1]
# A trial's passes, what is derived from them, the order of the visits of the clock pass, and how a
# method's memory budget is read.
ROOTS = (
    "trial/trial_passes",
    "trial/record_assembly",
    "launch/round_group",
    "spec/memory_size",
)
MODEL = "model"  # methods may import anything in it
# Not included: definitions of values, messages and metric names, which the record itself contains.
CARRY_VALUES = frozenset(
    {
        *("errors", "files", "spec/frozen_data", "spec/multitask", "spec/recipe"),
        "spec/trial_spec",
        *("records/environment", "records/environment_variables"),
        *("records/metric", "records/metrics"),
        *(
            "records/metric_bounds",
            "records/pass_readings",
            "records/record_key",
            "records/record_decoder",
            "records/remarks",
            "records/trial_environment",
            "records/sidecar",
            "records/trial_record",
            "trial/pass_result",
        ),
    }
)


@functools.cache
def measuring_hash() -> str:
    """Return 8 hex digits of a hash of the measuring code."""
    return hash_of_files(measuring_files())


def measuring_files() -> list[Path]:
    """Return the files that affect numbers, sorted: roots, all of ``model``, and their imports.

    Files that only define values are left out, and so are files that only these import.
    """
    roots = [HARNESS / f"{root}.py" for root in ROOTS]
    used_by_methods = sorted((HARNESS / MODEL).glob("*.py"))
    return files_behind([*roots, *used_by_methods], _measuring_file)


def _measuring_file(module: str) -> Path | None:
    """Return the file of a harness module that affects numbers; ``None`` for other modules."""
    if not module.startswith(PREFIX):
        return None
    name = module.removeprefix(PREFIX).replace(".", "/")
    folder = HARNESS / name
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return file if name not in CARRY_VALUES and file.is_file() else None
