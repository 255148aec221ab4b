"""What the doctor finds here, what it keeps, and how its command ends."""

import json

import pytest
import torch

from bsrbench.harness.devices import cpu
from bsrbench.harness.doctor import examination, known_memory
from bsrbench.harness.doctor.examination import examine
from bsrbench.harness.doctor.meter_check import DeviceChecks, MeterCheck
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.meters.allocator_events import allocator_rise
from bsrbench.harness.records.device_examination import examination_in
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.trial_passes import perform
from bsrbench.methods import load

JUDGED = {
    *("counted bytes", "allocated bytes", "clock", "attention in fp32", "attention in bf16"),
    *("precision of fp32 matrix products", "precision of fp32 convolutions"),
    *("FLOPs of a forward pass", "twice its MACs", "two FLOP counters", "estimated peak"),
    "counted, workspaces and allocated",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep results of examinations in a folder of the test."""
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_meter_reads_what_is_known_on_this_machine(launcher, make_spec, cache):
    """Pairs are not timed; a record made afterwards on the device states what it passed."""
    checks = list(examine(launcher, 0, ["cpu"]))
    judged = {check.what: check.good for check in checks if check.good is not None}
    result = perform("memory", make_spec(), None, load)

    assert set(judged.values()) == {True}, [check for check in checks if check.good is False]
    assert judged.keys() >= JUDGED
    assert {"energy counter", "kernel's high-water mark"} <= {check.what for check in checks}
    assert {check.device for check in checks} == {"cpu"}
    stated = examination_in(result.device)
    assert set(stated.passed) == judged.keys()
    assert (stated.failed, stated.torch.split("+")[0]) == ((), torch.__version__.split("+")[0])


@pytest.mark.cuda
def test_every_meter_reads_what_is_known_on_a_gpu(launcher):
    checks = list(examine(launcher, 1, ["cuda"]))
    judged = {check.what for check in checks if check.good is not None}

    assert [check for check in checks if check.good is False] == []
    assert judged >= JUDGED | {"allocated, reserved and process", "identical pair"}


class OneCheck(InlineLauncher):
    """Makes the checks of known bytes, and completes no pass."""

    def __init__(self):
        super().__init__(load)

    def ask(self, function, kind):
        (name,) = function.args
        return DeviceChecks(
            device={"device": name}, checks=tuple(known_memory.known_bytes(name, cpu.Cpu(CPU)))
        )


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("rise", "code", "last"),
    [
        (0, 0, "every meter on this machine reads the expected value"),
        (1, 1, "wrong readings: cpu allocated bytes"),
    ],
)
def test_the_command_ends_with_1_if_a_meter_is_off(rise, code, last, typed, monkeypatch, cache):
    """Asks the meters of known bytes alone; the rest takes half a minute."""
    monkeypatch.setattr(known_memory, "allocator_rise", lambda act: allocator_rise(act) + rise)
    monkeypatch.setattr(examination, "known_trial", lambda *_: [])
    monkeypatch.setattr(examination, "judge_pairs", lambda name, _: MeterCheck(name, "pair", ""))
    monkeypatch.setattr("bsrbench.harness.cli.health.make_launcher", OneCheck)
    ended, printed = typed("doctor", "--device", "cpu")
    lines = printed.splitlines()
    (kept,) = cache.glob("doctor-*.json")

    assert ended == code
    size = 12 * 2**20 + 2
    assert lines[0] == f"ok  cpu counted bytes: {size}, expected {size}"
    assert lines[1].startswith("ok " if rise == 0 else "OFF")
    assert lines[-1] == last
    assert json.loads(kept.read_text())["failed"] == ["allocated bytes"] * rise


def test_a_device_that_is_not_there_is_bad_input_before_anything_runs(typed):
    code, printed = typed("doctor", "--device", "cpu", "--device", "cuda:7")

    assert code == 2
    assert "no device 'cuda:7' here: torch sees 0 CUDA devices" in printed
    assert "ok " not in printed


def test_no_pairs_are_bad_input(typed):
    code, printed = typed("doctor", "--pairs", "0")

    assert code == 2
    assert "Traceback" not in printed


def test_a_device_that_does_not_work_is_off_and_keeps_no_result(cache):
    class Broken(InlineLauncher):
        def ask(self, function, kind):
            return DeviceChecks(Status.CRASHED, "the GPU is busy")

    assert list(examine(Broken(load), 1, ["cpu"])) == [
        MeterCheck("cpu", "device", "crashed: the GPU is busy", good=False)
    ]
    assert not cache.exists()


def test_all_devices_at_hand_are_examined_and_the_others_named(monkeypatch):
    def open_one(name):
        if name in {"mps", "xpu"}:
            raise BadInput(f"no device {name!r} here")

    monkeypatch.setattr(examination, "open_device", open_one)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert examination.devices_at_hand() == (
        ["cpu", "cuda:0", "cuda:1"],
        [MeterCheck(name, "device", f"no device {name!r} here") for name in ("mps", "xpu")],
    )


def test_a_record_without_an_examination_states_none(make_spec):
    device = perform("memory", make_spec(), None, load).device

    assert examination_in(device) is None
