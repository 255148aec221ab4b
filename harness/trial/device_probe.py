"""Find out whether a device can be used, before anything is measured."""

import torch

from bsrbench.harness.devices import open_device
from bsrbench.harness.trial.pass_result import Answer
from bsrbench.harness.trial.trial_passes import failed


def probe(name: str) -> Answer:
    """Allocate one number on a device, in this process, and return how that ended.

    A device may be there and yet refuse to work: another process may use it exclusively, or its
    memory may be full.
    """
    try:
        device = open_device(name)
        torch.ones(1, device=device.torch_device)
        device.synchronise()
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome here
        return failed(Answer, error)
    return Answer()
