"""A launcher that answers at once and counts the visits of its clock."""

from bsrbench.harness.launch.turns.whole_passes import WholePasses
from bsrbench.harness.records.pass_readings import DeviceSpeed, PassReadings, notes_of
from bsrbench.harness.records.remarks import NoteKind
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.pass_result import CheckResult, PassResult

PROFILE = Profile(rounds=1, generations=2, warmup_steps=0, budget_seconds=0)
OTHERS = {
    "memory": {"peak_counted_bytes": 1, "peak_allocated_bytes": 1},
    "process": {"peak_process_bytes": 1},
    "flops": {"forward_flop": 1, "step_flop": 3, "trained_parameters": 1},
    "estimate": {"peak_estimated_bytes": 1},
}


class Counting:
    """A launcher that answers at once: the nth clock pass it is asked for takes n seconds."""

    measures_cpu_time = False

    def __init__(self, stop_at=None, failing=(), noisy=(), settings=None):
        self.asked, self.stop_at, self.found = [], stop_at, settings or {}
        self.failing, self.noisy = failing, noisy

    def settings(self, device):
        """Return the settings that were given."""
        return self.found

    def check(self, spec, parts):
        """Find nothing wrong."""
        return CheckResult()

    def perform(self, name, spec, *, log=None, **_):
        """Answer, or be interrupted."""
        if name == "speed":
            return PassResult(reading=PassReadings({}, speed=DeviceSpeed(1e9)))
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((name, spec.method))
        if name == "clock" and spec.method in self.failing:
            return PassResult(Status.CRASHED, "broken")
        if log:
            log.parent.mkdir(exist_ok=True)
            log.write_text(f"pass {len(self.asked)}")
        values = OTHERS.get(name) or {
            "step_seconds": [float(len(self.timed()))],
            "evaluation_seconds": [0.5],
        }
        noisy = name == "clock" and spec.method in self.noisy
        notes = notes_of(NoteKind.TIMING, ["loud"] if noisy else [])
        return PassResult(reading=PassReadings(values, notes=notes), start_seconds=0.1)

    def resident(self, spec, *, log=None):
        """Return a clock pass of one visit."""
        return WholePasses(lambda: self.perform("clock", spec, log=log))

    def timed(self):
        """Return the methods that the clock visited, in order."""
        return [method for name, method in self.asked if name == "clock"]


def by_method(records):
    return {record.spec.method: record for record in records}
