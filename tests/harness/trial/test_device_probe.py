"""A device that refuses to work ends a run before anything is measured."""

import pytest
import torch

from bsrbench.harness.cli import availability
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial import device_probe
from bsrbench.harness.trial.device_probe import probe
from bsrbench.methods import load

BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCompile with ..."


class Busy:
    """A GPU that another process uses exclusively: it is there, and no context can be made."""

    torch_device = torch.device("cpu")

    def synchronise(self):
        raise RuntimeError(BUSY)


def test_a_device_that_works_is_usable():
    assert probe("cpu").status is Status.COMPLETED


def test_a_busy_gpu_ends_a_run_with_one_sentence(monkeypatch):
    monkeypatch.setattr(device_probe, "open_device", lambda _: Busy())

    with pytest.raises(BadInput) as raised:
        availability.require_usable(InlineLauncher(load), ["cpu", "cuda:1"])
    message = str(raised.value)
    assert message.startswith("the device 'cuda:1' cannot be used: the GPU is busy")
    assert "\n" not in message


def test_a_cpu_is_not_probed(monkeypatch):
    monkeypatch.setattr(device_probe, "open_device", lambda _: Busy())

    availability.require_usable(InlineLauncher(load), ["cpu", "cpu"])


def test_the_probe_runs_in_a_process_of_its_own(launcher):
    """This process needs no GPU for it, so it cannot keep one from the trials."""
    availability.require_usable(launcher, ["cpu"])
    with pytest.raises(BadInput, match="'cuda:99' cannot be used: no device 'cuda:99' here"):
        availability.require_usable(launcher, ["cuda:99"])
