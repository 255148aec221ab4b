"""The private names of torch's gradient scaler."""

import torch

from bsrbench.harness.torch_internals.eager_internals import tensors_of_scaler


def test_a_scaler_has_two_tensors_once_a_loss_was_scaled():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = tensors_of_scaler(scaler)
    scaler.scale(torch.zeros(()))

    assert before == []
    assert [tensor.item() for tensor in tensors_of_scaler(scaler)] == [8.0, 0]
