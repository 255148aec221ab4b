"""Measure how many bits of a number survive a matrix product and a convolution."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from bsrbench.harness.devices import Device
from bsrbench.harness.devices.numeric_settings import decided
from bsrbench.harness.doctor.meter_check import MeterCheck

FRACTION_BITS = {"fp32": 23, "tf32": 10, "bf16": 7}
# What a setting allows; a device without the faster kernel may compute exactly all the same.
REDUCED = {"tf32": ("tf32", "fp32"), "bf16": ("bf16", "tf32", "fp32")}
GENERIC = "torch.backends.fp32_precision"
SETTINGS = {
    ("cpu", "matrix products"): "torch.backends.mkldnn.matmul.fp32_precision",
    ("cpu", "convolutions"): "torch.backends.mkldnn.conv.fp32_precision",
    ("cuda", "matrix products"): "torch.backends.cuda.matmul.fp32_precision",
    ("cuda", "convolutions"): "torch.backends.cudnn.conv.fp32_precision",
}
NOT_SET = "none"  # torch's word for: the more general setting decides
SIDE = 256  # of the matrices; small products may run kernels without tensor cores


def precision(name: str, device: Device) -> Iterator[MeterCheck]:
    """Check that fp32 products and convolutions are as precise as torch's settings state."""
    target, settings = device.torch_device, decided(name)
    for what, times_one in (("matrix products", _product), ("convolutions", _convolution)):
        bits = surviving_bits(partial(times_one, target))
        setting = _setting(target.type, what, settings)
        allowed = REDUCED.get(setting, ("fp32",))
        runs_in = next((kind for kind, n in FRACTION_BITS.items() if bits >= n), "less than bf16")
        message = f"{runs_in} ({bits} bits of a fraction survive); torch's setting: {setting}"
        yield MeterCheck(name, f"precision of fp32 {what}", message, good=runs_in in allowed)


def _setting(kind: str, what: str, settings: Mapping[str, str]) -> str:
    own = settings.get(SETTINGS.get((kind, what), GENERIC), NOT_SET)
    return settings[GENERIC] if own == NOT_SET else own


def surviving_bits(times_one: Callable[[float], Tensor]) -> int:
    """Return the largest number of bits of a fraction that an operation keeps.

    The number 1 + 2^-n needs n bits. An operation that rounds its inputs to fewer bits does not
    return it.

    Args:
        times_one: multiplies a number by one, and returns a tensor of the results, of any shape.
    """
    exact = 0
    for bits in range(1, FRACTION_BITS["fp32"] + 1):
        number = 1.0 + 2.0**-bits
        if not bool((times_one(number) == number).all()):
            break
        exact = bits
    return exact


def _product(target: torch.device, number: float) -> Tensor:
    return torch.full((SIDE, SIDE), number, device=target) @ torch.eye(SIDE, device=target)


def _convolution(target: torch.device, number: float) -> Tensor:
    channels = 64
    images = torch.full((8, channels, 16, 16), number, device=target)
    return conv2d(images, torch.eye(channels, device=target)[:, :, None, None])
