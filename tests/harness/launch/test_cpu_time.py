"""CPU time is measured in processes whose threads sleep, and contains all their threads."""

import json
import os
import subprocess
import sys

import pytest

from bsrbench.harness.launch.round_group import cpu_generations_of, cpu_time_in_turns
from bsrbench.harness.launch.turns.joined_cpu_time import with_cpu_time
from bsrbench.harness.profiler.clock_visits import END
from bsrbench.harness.profiler.cpu_pass import CPU_SECONDS, cpu_pass
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.methods import load

# A method that notes the CPU time of its process around each step, by another meter.
METERED = '''
import json, os, resource, threading
from dataclasses import dataclass
from bsrbench.harness.method import Kind, Method

def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

def work():
    sum(i * i for i in range(100_000))

@dataclass(frozen=True)
class Metered(Method):
    """Uses CPU time in another thread in each step."""
    file: str = ""
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        model.register_forward_pre_hook(lambda *_: self.begin())
        return model

    def begin(self):
        self.note()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def step_done(self):
        self.note()

    def note(self):
        names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
        line = {"pid": os.getpid(), "used": used(), "own": [os.environ.get(n) for n in names]}
        with open(self.file, "a") as file:
            file.write(json.dumps(line) + "\\n")
'''
# The tests' own process has passive threads already; this one does not.
ACTIVE = """
import json, os, sys
from bsrbench.harness.launch.processes import fork_server
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.methods import load
file, options = sys.argv[1:]
work = Workload(model="deit_tiny_patch16_224", image_size=32, classes=2, batch=1, threads=1)
spec = TrialSpec(method=file, options=json.loads(options), workload=work, profile=Profile())
launcher = LocalLauncher(load)
sleeping, usual = launcher.sleeping_resident(spec), launcher.resident(spec)
sleeping.visit("steps"), usual.visit("steps")
ends = [resident.end() for resident in (sleeping, usual)]
different = fork_server.server() is not fork_server.server_of_sleepers()
print(json.dumps([different, [sorted(end.readings().measurements) for end in ends],
                  os.environ.get("OMP_WAIT_POLICY"), [end.reason for end in ends]]))
"""


class Planned:
    def __init__(self, spec, key):
        self.spec, self.key = spec, key


@pytest.fixture
def metered(tmp_path):
    (tmp_path / "metered.py").write_text(METERED)
    return f"{tmp_path / 'metered.py'}:Metered", {"file": str(tmp_path / "notes.txt")}


def notes(tmp_path):
    return [json.loads(line) for line in (tmp_path / "notes.txt").read_text().splitlines()]


def test_a_sample_is_the_cpu_time_of_all_threads_by_a_second_meter(
    launcher, metered, make_spec, tmp_path
):
    """Each visit ends with the last step that the method has noted, so both see the same steps."""
    method, options = metered
    profile = Profile(rounds=2, generations=1, warmup_steps=0)
    spec = make_spec(method, options=options, profile=profile, image_size=32, batch=1, threads=1)
    found = cpu_time_in_turns([Planned(spec, "a")], lambda m: launcher.sleeping_resident(m.spec))
    reading = found["a"].readings()
    clock = reading.detail.clock
    noted = notes(tmp_path)
    of_visits = noted[2 * clock.warmup_steps[0] :]
    per_visit = 2 * clock.steps_per_visit
    expected = [
        (visit[-1]["used"] - visit[0]["used"]) / clock.steps_per_visit
        for visit in (of_visits[:per_visit], of_visits[per_visit:])
    ]

    assert found["a"].status is Status.COMPLETED
    assert len(of_visits) == 2 * per_visit
    assert clock.generations[CPU_SECONDS] == (0, 0)
    # What a step does after the method's last note is missing from the second meter.
    assert reading.measurements[CPU_SECONDS] == pytest.approx(expected, rel=0.05, abs=0.01)
    assert all(kind in {*reading.missing, *reading.measurements} for kind in ("step_cycles",))


def test_its_processes_have_another_server_and_threads_that_sleep(metered, tmp_path):
    method, options = metered
    away = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    done = subprocess.run(
        [sys.executable, "-c", ACTIVE, method, json.dumps(options)],
        env={name: value for name, value in os.environ.items() if name not in away},
        capture_output=True,
        text=True,
        check=True,
    )
    different, (sleeping, usual), policy_here, reasons = json.loads(done.stdout)
    own = {line["pid"]: line["own"] for line in notes(tmp_path)}

    assert different
    assert reasons == ["", ""]
    assert "step_cpu_seconds" in sleeping
    assert "step_seconds" in usual
    assert "step_cpu_seconds" not in usual
    assert list(own.values()) == [["PASSIVE", "0", "0"], [None, None, None]]
    assert policy_here is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "1000"), ("KMP_BLOCKTIME", "200")],
)
def test_a_process_whose_threads_spin_is_refused(name, value, make_spec, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv(name, value)

    with pytest.raises(ValueError, match="OMP_WAIT_POLICY=PASSIVE"):
        cpu_pass(make_spec("full", profile=Profile()), load, lambda _: END)


@pytest.mark.parametrize(
    ("device", "generations", "expected"), [("cpu", 8, 5), ("cpu", 2, 2), ("cuda", 5, 0)]
)
def test_only_rows_on_a_cpu_have_generations_of_cpu_time(device, generations, expected, make_spec):
    spec = make_spec("full", device=device, profile=Profile(generations=generations))

    assert cpu_generations_of([Planned(spec, "a")]) == expected


def timed(metric, samples, **detail):
    clock = ClockDetail(generations={metric: tuple(range(len(samples)))}, **detail)
    note = Note(NoteKind.TIMING, f"1 of {len(samples)} rounds were disturbed")
    reading = PassReadings({metric: samples}, notes=(note,), detail=Sidecar(clock=clock))
    return PassResult(reading=reading, seconds=2.0, began_at=f"2026-01-0{len(samples)}")


def test_the_joined_result_has_both_times_and_the_conditions_of_the_clock():
    joined = with_cpu_time(
        timed("step_seconds", [1.0, 2.0], rounds=7), timed(CPU_SECONDS, [3.0], rounds=9)
    )
    reading = joined.readings()

    assert reading.measurements == {"step_seconds": [1.0, 2.0], CPU_SECONDS: [3.0]}
    assert reading.detail.clock.generations == {"step_seconds": (0, 1), CPU_SECONDS: (0,)}
    assert reading.detail.clock.rounds == 7
    assert [note.text for note in reading.notes] == ["1 of 2 rounds were disturbed"]
    assert joined.seconds == 4.0
    assert joined.began_at == "2026-01-01"


def test_without_processes_of_their_own_cpu_time_is_absent_with_a_reason():
    reading = with_cpu_time(timed("step_seconds", [1.0]), None).readings()

    assert "threads may spin" in reading.missing[CPU_SECONDS].text
    assert "threads may spin" in reading.missing["step_instructions"].text


def test_a_failed_clock_stays_as_it_is():
    failed = PassResult(Status.CRASHED, "broken")

    assert with_cpu_time(failed, timed(CPU_SECONDS, [3.0])) == failed
