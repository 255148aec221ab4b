"""Stored records of older schema versions, step by step, as the present one has them."""

from collections.abc import Callable
from typing import Any

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.trial_record import SCHEMA_VERSION
from bsrbench.harness.spec.trial_spec import LATER_KEYS

NEW_METRIC = "this record was made before the metric existed"


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """Return a record's JSON as the present schema version has it; it is not changed in place.

    Raises:
        ValueError: a version that is not known here.
    """
    version = data.get("schema_version")
    while type(version) is int and version in STEPS:
        data = STEPS[version](data)
        version = data["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        raise ValueError(
            f"schema version {version!r:.20}; this program reads 1 to {SCHEMA_VERSION}: "
            "was it made by a newer one?"
        )
    return data


def _to_2(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 knows more metrics, and keeps a caching allocator's reserve apart."""
    measurements = dict(data["measurements"])
    if data["spec"]["workload"]["device"].startswith("cuda"):
        measurements["peak_reserved_bytes"] = measurements.pop("peak_process_bytes", None)
    return _explained(data | {"schema_version": 2, "measurements": measurements})


def _to_3(data: dict[str, Any]) -> dict[str, Any]:
    """Version 3 knows a compiled step and an optimizer in the backward pass: neither was there."""
    keys = ("compiled_step", "optimizer_in_backward")
    return _with_keys(data, 3, {"workload": {key: LATER_KEYS["workload"][key] for key in keys}})


def _to_4(data: dict[str, Any]) -> dict[str, Any]:
    """Version 4 knows recipes: what they say now was so before."""
    return _with_keys(data, 4, LATER_KEYS)


def _to_5(data: dict[str, Any]) -> dict[str, Any]:
    """Version 5 knows several tasks: there was one."""
    return _with_keys(data, 5, {"workload": {"multitask": LATER_KEYS["workload"]["multitask"]}})


def _to_6(data: dict[str, Any]) -> dict[str, Any]:
    """Version 6 knows rows timed again beside a new one, and when a trial began.

    What was called settings were the few variables that somebody had thought of; they are kept as
    the circumstances they were, and settings that decide numbers are not stated.
    """
    environment = dict(data["environment"])
    environment["circumstances"] = environment.pop("settings", {})
    kept = {"environment": environment, "beside": {}, "began_at": None}
    return _explained(data | {"schema_version": 6} | kept)


def _to_7(data: dict[str, Any]) -> dict[str, Any]:
    """Version 7 knows a hash of a record's own content: nobody took one before."""
    return _explained(data | {"schema_version": 7, "content_sha256": None})


def _with_keys(
    data: dict[str, Any], version: int, keys: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return a record whose spec has more keys, as they were when nobody could set them."""
    parts = {part: data["spec"][part] for part in keys if data["spec"].get(part) is not None}
    spec = data["spec"] | {part: keys[part] | found for part, found in parts.items()}
    return _explained(data | {"schema_version": version, "spec": spec})


def _explained(data: dict[str, Any]) -> dict[str, Any]:
    """Return a record in which every metric that is known now has a value or a reason."""
    measurements, missing = dict(data["measurements"]), dict(data["missing"])
    for name in METRICS:
        if measurements.get(name) is None:
            measurements[name] = None
            missing.setdefault(name, NEW_METRIC)
    return data | {"measurements": measurements, "missing": missing}


STEPS: dict[Any, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _to_2,
    2: _to_3,
    3: _to_4,
    4: _to_5,
    5: _to_6,
    6: _to_7,
}
