"""Offloading: refused where nothing can be moved, and what it moves where something can.

No test here has seen an accelerator but those marked ``cuda``. A stand-in takes the host for one:
tensors are copied within its memory, and what is copied, shared and brought back is looked at.
"""

import pytest
import torch
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.predict.fake_step import NOT_OF_ITS_DEVICE
from bsrbench.harness.trial.trial_passes import perform
from bsrbench.methods import offload
from bsrbench.methods.parts.extend_module import extend

REASON = (
    "offload is made for cuda or xpu, not for cpu: the tensors that it would move are already in "
    "host memory"
)


def gradients(model, batch):
    loss = cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.fixture
def moved(monkeypatch):
    """Take the CPU for a device of its own; return the list of what was copied to the host."""
    copied = []

    def room(x):
        copied.append(x)
        return torch.empty_like(x)

    monkeypatch.setattr(offload, "APART", frozenset({"cpu"}))
    monkeypatch.setattr(offload, "_room", room)
    return copied


@pytest.mark.parametrize("name", ["offload", "bsr+offload"])
@pytest.mark.parametrize("pass_name", ["memory", "estimate"])
def test_a_trial_on_a_cpu_is_unsupported_and_says_why(name, pass_name, make_six_spec):
    spec = make_six_spec(name)
    result = perform(pass_name, spec, None, methods.load)

    assert (result.status, result.reason) == ("unsupported", REASON)


def test_estimate_says_so_too(typed):
    exit_code, said = typed(
        *("estimate", "--model", "test_vit", "--batch", 2, "--method", "offload")
    )

    assert (exit_code, REASON in " ".join(said.split())) == (1, True)


def test_for_its_device_flops_are_predicted_and_memory_is_missing(make_spec):
    """Over a CPU's tensors nothing moves, so their peak would be that of full fine-tuning."""
    found = predict(make_spec("offload", device="cuda"), methods.load)
    full = predict(make_spec("full", device="cuda"), methods.load)

    assert found.missing["peak_estimated_bytes"].text == NOT_OF_ITS_DEVICE
    assert "peak_estimated_bytes" not in found.measurements
    assert found.measurements["step_flop"] == full.measurements["step_flop"]


def test_on_a_cpu_hooks_leave_tensors_alone(make_vit, batch):
    layer = torch.nn.Linear(64, 64)
    extend(layer, offload.SavesOnHost)
    x = torch.randn(64, 64, requires_grad=True)
    saved = layer(x).grad_fn._saved_mat1

    assert x.data_ptr() == saved.data_ptr()


@pytest.mark.parametrize("name", ["full", "bsr", "lora"])
def test_what_was_moved_comes_back_to_the_last_bit(name, make_vit, batch, moved):
    plain = gradients(methods.load(name).prepare(make_vit()), batch)
    assert not moved
    ours = gradients(methods.load(f"{name}+offload").prepare(make_vit()), batch)

    assert moved
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


def test_moves_activations_once_and_neither_parameters_nor_what_is_small(make_vit, batch, moved):
    """A block of width 64, 17 tokens, 16 images; fused attention keeps its output and row sums."""
    model = methods.load("offload").prepare(make_vit(embed_dim=64, depth=1))
    model.blocks[0](torch.randn(16, 17, 64, requires_grad=True))
    rows = 16 * 17

    # Inputs of both norms, of qkv, proj and fc1; queries, keys, values and what mixes them, which
    # the projection reads in another order; inputs of GELU and fc2; a sum a head and row.
    wide = [rows * 64] * 5 + [rows * 64] * 4 + [rows * 256] * 2
    assert sorted([*wide, rows * 4]) == sorted(x.numel() for x in moved)
    assert len({(x.data_ptr(), x.shape) for x in moved}) == len(moved)


def test_two_operators_that_save_one_tensor_share_its_copy(moved):
    class Twice(torch.nn.Module):
        def forward(self, x):
            return x.sin() * x

    layer = Twice()
    extend(layer, offload.SavesOnHost)
    x = torch.randn(64, 64, requires_grad=True)
    layer(x).sum().backward()

    assert [tuple(one.shape) for one in moved] == [(64, 64)] * 2  # x once, its sine
    torch.testing.assert_close(x.grad, x.detach().cos() * x.detach() + x.detach().sin())


def test_a_composition_says_what_a_part_says():
    method = methods.load("bsr+offload")

    assert [method.made_for(device) for device in ("cpu", "cuda", "mps")] == [False, True, False]
    with pytest.raises(Unsupported, match="offload is made for cuda or xpu, not for mps"):
        method.require_device("mps")
    methods.load("bsr+int8").require_device("mps")


@pytest.mark.cuda
def test_cuda_gets_its_activations_back(make_vit, batch):
    images, labels = (tensor.cuda() for tensor in batch)
    plain, ours = (
        gradients(methods.load(name).prepare(make_vit()).cuda(), (images, labels))
        for name in ("full", "offload")
    )

    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.cuda
def test_cuda_keeps_activations_in_pinned_memory_of_the_host():
    packing = offload.Packing(lambda _: True, offload._to_host)
    x = torch.randn(64, 64, device="cuda")
    kept = packing(x).packed
    torch.cuda.synchronize()

    assert kept.tensor.is_pinned()
    assert kept.tensor.device.type == "cpu"
    assert torch.equal(x.cpu(), kept.tensor)


@pytest.mark.cuda
def test_cuda_holds_little_between_forward_and_backward(make_vit, batch):
    """Block by block nothing but statistics of the norms stays."""
    held = {}
    for name in ("full", "offload"):
        model = methods.load(name).prepare(make_vit(embed_dim=256)).cuda()
        images = batch[0].cuda()
        before = torch.cuda.memory_allocated()
        output = model(images)
        torch.cuda.synchronize()
        held[name] = torch.cuda.memory_allocated() - before
        del output

    assert held["offload"] < 0.2 * held["full"]
