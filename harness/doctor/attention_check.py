"""Check which kernel computes attention on a device, and whether its results are right."""

from collections.abc import Iterator
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from bsrbench.harness.devices import Device
from bsrbench.harness.doctor.meter_check import MeterCheck
from bsrbench.harness.meters.attention_operators import attention_kernel

# Largest difference from the same attention in fp64. Outputs are means of numbers near 1; fp32
# kernels may use TF32 (10 bits), as fp16 does; bf16 has 7 bits.
TOLERANCES = {torch.float32: 0.004, torch.float16: 0.008, torch.bfloat16: 0.06}
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
SHAPE = (1, 3, 17, 64)  # [batch, heads, tokens, width of a head]


def attention(name: str, device: Device) -> Iterator[MeterCheck]:
    """Name the kernel of each precision, and compare its result with the one in fp64."""
    for dtype, tolerance in TOLERANCES.items():
        what = f"attention in {NAMES[dtype]}"
        generator = torch.Generator().manual_seed(0)
        exact = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        x = exact.to(device.torch_device, dtype).requires_grad_()
        try:
            kernel = attention_kernel(partial(scaled_dot_product_attention, x, x, x))
            result = scaled_dot_product_attention(x, x, x).detach().to("cpu", torch.float64)
        except (RuntimeError, TypeError) as error:
            yield MeterCheck(name, what, f"does not run here: {str(error).splitlines()[0]}")
            continue
        scores = (exact @ exact.mT / SHAPE[-1] ** 0.5).softmax(-1)
        difference = float((result - scores @ exact).abs().max())
        message = f"{kernel}; differs from fp64 by at most {difference:.1g}"
        yield MeterCheck(name, what, message, good=difference <= tolerance)
