"""Memory and FLOPs by the passes that ``bsrbench profile`` runs, each trial once."""

import os

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.processes.pass_process import OURS
from bsrbench.harness.launch.run_settings import Launcher
from bsrbench.harness.method import Unsupported
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.trial_passes import PassResult

PASSES = ("memory", "flops")


class NotMeasured(Exception):  # noqa: N818 - an outcome; a test fails by it and may expect it
    """A pass ended without numbers: out of memory, diverged, crashed; the message says how."""


class Counters:
    """Reads what does not depend on the clock, in processes of its own.

    Args:
        launcher: where a pass runs.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._known: dict[tuple[object, ...], PassReadings] = {}

    def read(self, spec: TrialSpec) -> PassReadings:
        """Return what the passes read, now or before: tests often share their baseline.

        Raises:
            BadInput: the trial can never work as it is written.
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
        return _joined([_require(self._launcher.perform(p, spec), spec, p) for p in PASSES])


def _settings() -> list[tuple[str, str]]:
    """Return our settings, which reach the passes and may change what they read."""
    return sorted((name, value) for name, value in os.environ.items() if name.startswith(OURS))


def _require(result: PassResult, spec: TrialSpec, name: str) -> PassResult:
    """Return a result that completed."""
    if result.bad_input:
        raise BadInput(result.reason)
    if result.status == Status.UNSUPPORTED:
        raise Unsupported(f"{spec.label()}: {result.reason}")
    if result.status != Status.COMPLETED:
        raise NotMeasured(f"{spec.label()}: {result.status} ({name} pass: {result.reason})")
    return result


def _joined(results: list[PassResult]) -> PassReadings:
    reading = PassReadings()
    for result in results:
        reading.measurements.update(result.reading["measurements"])
        reading.missing.update(result.reading["missing"])
        reading.notes.extend(result.reading["notes"])
        if "fallback" in result.method:
            reading.notes.append(str(result.method["fallback"]))
    return PassReadings(reading.measurements, reading.missing, list(dict.fromkeys(reading.notes)))
