"""The device of a fake tensor, asked for without an operator."""

import torch

from bsrbench.harness.torch_internals import eager_internals as internals


def test_the_device_of_a_fake_tensor_is_what_the_operator_returns():
    """Inside a kernel, fake tensors are on the device meta."""
    with internals.FakeTensorMode() as mode:
        made = torch.ones(3)

    assert internals.DEVICE_OF(made) == internals.device_of_fake(made) == torch.device("cpu")
    mode.in_kernel_invocation = True
    assert internals.DEVICE_OF(made) == internals.device_of_fake(made) == torch.device("meta")
