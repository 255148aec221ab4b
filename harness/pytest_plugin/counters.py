"""Measure memory and FLOPs of each trial once, with the passes of ``bsrbench profile``."""

import os

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.processes.pass_process import OURS
from bsrbench.harness.launch.run_settings import Launcher
from bsrbench.harness.method import NOTED_FACTS, Unsupported
from bsrbench.harness.records.pass_readings import PassReadings, joined_readings, notes_of
from bsrbench.harness.records.remarks import NoteKind
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.pass_result import Answer, PassResult

PASSES = ("memory", "flops")


class NotMeasured(Exception):  # noqa: N818 - an outcome; a test fails by it and may expect it
    """A pass ended without numbers: out of memory, diverged or crashed; the message says which."""


class Counters:
    """Measures what does not depend on the clock, in separate processes.

    Args:
        launcher: runs the passes.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._known: dict[tuple[object, ...], PassReadings] = {}

    def read(self, spec: TrialSpec) -> PassReadings:
        """Return the readings of the passes; they are cached, because tests often share a baseline.

        Raises:
            BadInput: the spec of the trial cannot work.
            Unsupported: the method cannot run on this model or device.
            NotMeasured: a pass did not complete.
        """
        methods.load(spec.method, **spec.options)  # finds mistakes before a process is started
        key = (spec.trial_id(), methods.fingerprint(spec.method), *_settings())
        if key not in self._known:
            self._known[key] = self._measure(spec)
        return self._known[key]

    def _measure(self, spec: TrialSpec) -> PassReadings:
        _require(self._launcher.check(spec), spec, "check")
        results = []
        for name in PASSES:
            results.append(self._launcher.perform(name, spec))
            _require(results[-1], spec, name)
        return _joined(results)


def _settings() -> list[tuple[str, str]]:
    """Return our environment variables, which the passes inherit and which may affect them."""
    return sorted((name, value) for name, value in os.environ.items() if name.startswith(OURS))


def _require(result: Answer, spec: TrialSpec, name: str) -> None:
    """Check that a pass completed."""
    if result.bad_input:
        raise BadInput(result.reason)
    if result.status == Status.UNSUPPORTED:
        raise Unsupported(f"{spec.label()}: {result.reason}")
    if result.status != Status.COMPLETED:
        raise NotMeasured(f"{spec.label()}: {result.status} ({name} pass: {result.reason})")


def _joined(results: list[PassResult]) -> PassReadings:
    """Return the joined readings of all passes, with each note once."""
    parts = [part for result in results for part in (result.readings(), _said_by_method(result))]
    together = joined_readings(parts)
    notes = tuple(dict.fromkeys(together.notes))
    return PassReadings(together.measurements, together.missing, notes)


def _said_by_method(result: PassResult) -> PassReadings:
    texts = [str(result.method[key]) for key in NOTED_FACTS if key in result.method]
    return PassReadings({}, notes=notes_of(NoteKind.METHOD, texts))
