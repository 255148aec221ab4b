"""Upgrade stored records of older schema versions to the present one, step by step.

Each step has its own constants, because the meaning of a record of its version never changes, even
if later versions of the program do.
"""

from collections.abc import Callable
from typing import Any

from bsrbench.harness.records.remarks import AbsenceKind, NoteKind
from bsrbench.harness.records.trial_record import SCHEMA_VERSION

Data = dict[str, Any]

# The timing options of every spec of schema 1.
TIMED_IN_1 = {"profile": {"within": 0.02, "budget_seconds": 10.0}}
# Keys of a spec that a version added, with the value that all earlier trials had.
ADDED_IN_3 = {"workload": {"compiled_step": False, "optimizer_in_backward": False}}
ADDED_IN_4: dict[str, Data] = {
    "workload": {"layer_decay": 1.0, "decay_vectors": True},
    "training": {
        "final_learning_rate": 0.0,
        "label_smoothing": 0.0,
        "augmentation": "none",
        "crop_scale": [0.08, 1.0],
        "evaluation_crop": "resize",
        "interpolation": "bicubic",
        "head": "drawn",
        "evaluate_every": None,
    },
}
ADDED_IN_5: dict[str, Data] = {"workload": {"multitask": None}, "profile": {"only_predict": False}}

# The first words of notes and reasons of schema 7 and older, and their kind since schema 8.
NOTES_BEFORE_8 = {
    "timing: ": NoteKind.TIMING,
    "residual of ": NoteKind.MEMORY,
    "nothing was executed": NoteKind.PREDICTION,
    "two counters disagree": NoteKind.FLOPS,
    "FLOPs counted again": NoteKind.FLOPS,
}
TIMING_MARK = "timing: "  # began each note on timing; now the kind of the note says this
NOT_REQUESTED_MARK = "not asked for: "
REASONS_BEFORE_8 = {
    NOT_REQUESTED_MARK: AbsenceKind.NOT_REQUESTED,
    "not read: only one split": AbsenceKind.NOT_READ,
    "the CPU's allocator keeps no reserve": AbsenceKind.NOT_AVAILABLE,
    "this meter does not exist": AbsenceKind.NOT_AVAILABLE,
    "only the CPU allocator's events": AbsenceKind.NOT_AVAILABLE,
    "/sys/class/powercap": AbsenceKind.UNREADABLE,
    "the convention": AbsenceKind.NOT_AVAILABLE,
    "was measured, and": AbsenceKind.REJECTED,
    "this record was made before": AbsenceKind.NEW_METRIC,
}
# The keys of the environment of schema 7 and older that belong to the environment since schema 8,
# and those that belong to the circumstances. No version of bsrbench wrote other keys.
ENVIRONMENT_BEFORE_8 = (
    *("machine_id", "machine", "device", "versions", "commit", "tree_dirty", "settings"),
    *("set_by_method", "attention_kernel", "method", "workload"),
)
CIRCUMSTANCES_BEFORE_8 = (
    *("command", "limits", "suite_place", "order_seed", "round_group", "round_position"),
    *("timing", "jobs", "cores", "pass_start_seconds", "passes_seconds", "not_started", "cluster"),
)


def upgrade(data: Data) -> Data:
    """Return a record's JSON in the present schema version; ``data`` is not changed.

    Raises:
        ValueError: the version is not known.
    """
    version = data.get("schema_version")
    while type(version) is int and version in STEPS:
        data = STEPS[version](data)
        version = data["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        raise ValueError(
            f"schema version {version!r:.20}; this program reads 1 to {SCHEMA_VERSION}: "
            "a newer program may have made the record"
        )
    return data


def _to_2(data: Data) -> Data:
    """Upgrade to version 2, which separates a caching allocator's reserve from process memory."""
    measurements = dict(data["measurements"])
    if data["spec"]["workload"]["device"].startswith("cuda"):
        measurements["peak_reserved_bytes"] = measurements.get("peak_process_bytes")
        measurements["peak_process_bytes"] = None
        reasons = data["missing"] | {"peak_process_bytes": "this record was made before the metric"}
        data = data | {"missing": reasons}
    return _with_keys(data | {"measurements": measurements}, 2, TIMED_IN_1)


def _to_3(data: Data) -> Data:
    """Upgrade to version 3, which adds compiled steps and optimizers in the backward pass."""
    return _with_keys(data, 3, ADDED_IN_3)


def _to_4(data: Data) -> Data:
    """Upgrade to version 4, which adds training recipes."""
    return _with_keys(data, 4, ADDED_IN_4)


def _to_5(data: Data) -> Data:
    """Upgrade to version 5, which adds several tasks, and trials that only predict."""
    return _with_keys(data, 5, ADDED_IN_5)


def _to_6(data: Data) -> Data:
    """Upgrade to version 6, which adds ``beside`` (stored rows timed again) and ``began_at``.

    Before version 6, ``settings`` had only a few environment variables. They become
    ``circumstances``, and the record has no settings that affect numbers.
    """
    environment = dict(data["environment"])
    environment["circumstances"] = environment.pop("settings", {})
    kept = {"environment": environment, "beside": {}, "began_at": None}
    return data | {"schema_version": 6} | kept


def _to_7(data: Data) -> Data:
    """Upgrade to version 7, which adds a hash of the record's content; older records have none."""
    return data | {"schema_version": 7, "content_sha256": None}


def _to_8(data: Data) -> Data:
    """Upgrade to version 8, which adds circumstances, and kinds of notes and reasons."""
    before = data["environment"]
    environment = {name: before[name] for name in ENVIRONMENT_BEFORE_8 if name in before}
    apart = {name: before[name] for name in CIRCUMSTANCES_BEFORE_8 if name in before}
    reason = data["outcome"].get("reason")
    return data | {
        "schema_version": 8,
        "environment": environment,
        "circumstances": apart | {"variables": before.get("circumstances")},
        "notes": [_note(text) for text in data.get("notes", [])],
        "missing": {name: _absence(text, reason) for name, text in data["missing"].items()},
    }


def _note(text: str) -> Data:
    kind = _kind(text, NOTES_BEFORE_8, NoteKind.OTHER)
    return {"kind": kind, "text": text.removeprefix(TIMING_MARK)}


def _absence(text: str, reason: str | None) -> Data:
    """Return why a metric has no value; it may be the reason of the trial's failure."""
    default = AbsenceKind.FAILED if reason and text == reason else AbsenceKind.OTHER
    kind = _kind(text, REASONS_BEFORE_8, default)
    return {"kind": kind, "text": text.removeprefix(NOT_REQUESTED_MARK)}


def _kind(text: str, kinds: dict[str, Any], default: str) -> str:
    return next((str(kind) for start, kind in kinds.items() if text.startswith(start)), default)


def _with_keys(data: Data, version: int, keys: dict[str, Data]) -> Data:
    """Return a record whose spec has additional keys, with the values of all earlier trials."""
    parts = {part: data["spec"][part] for part in keys if data["spec"].get(part) is not None}
    spec = data["spec"] | {part: keys[part] | stated for part, stated in parts.items()}
    return data | {"schema_version": version, "spec": spec}


STEPS: dict[int, Callable[[Data], Data]] = {
    1: _to_2,
    2: _to_3,
    3: _to_4,
    4: _to_5,
    5: _to_6,
    6: _to_7,
    7: _to_8,
}
