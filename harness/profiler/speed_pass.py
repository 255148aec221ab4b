"""The speed pass: a device's speed and free memory, for the forecast before a run."""

from collections.abc import Callable

import torch
from torch import nn

from bsrbench.harness.devices import open_device
from bsrbench.harness.meters.phase_clock import seconds_each
from bsrbench.harness.records.pass_readings import DeviceSpeed, PassReadings
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.training_step import autocast

USUAL_SIDE, PATCH = 224, 16  # accurate enough for a forecast, if the workload has no size
WIDTH, HIDDEN = 384, 1536  # the widths of DeiT-S
PRODUCTS = 6  # of two layers: output, gradient of the input, gradient of the weight
RUNS = 3
LONG = 1.0  # seconds; a run that takes longer is not repeated


def speed_pass(spec: TrialSpec, load: Loader) -> PassReadings:  # noqa: ARG001 - as all passes
    """Measure the FLOPs per second of a transformer's MLP, forward and backward; best of three.

    The MLP gets about as many tokens as a forward pass of the workload has.
    """
    workload = spec.workload
    device = open_device(workload.device)
    side = (workload.image_size or USUAL_SIDE) // PATCH
    tokens = (workload.micro_batch or workload.batch) * (side * side + 1)
    step = _mlp_step(tokens, workload.precision, device.torch_device)
    (seconds,) = seconds_each(step, 1, device.synchronise)
    if seconds < LONG:  # otherwise the first run is accurate enough, for example in emulated bf16
        seconds = min(seconds_each(step, RUNS, device.synchronise))
    speed = 2 * PRODUCTS * tokens * WIDTH * HIDDEN / seconds
    return PassReadings({}, speed=DeviceSpeed(speed, device.free_bytes()))


def _mlp_step(tokens: int, precision: str, device: torch.device) -> Callable[[], None]:
    mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)).to(device)
    inputs = torch.ones(tokens, WIDTH, device=device, requires_grad=True)

    def step() -> None:
        with autocast(device, precision):
            loss = mlp(inputs).sum()
        loss.backward()

    return step
