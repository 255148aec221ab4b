"""What methods keep for the backward pass and do again in it, block by block."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from bsrbench import methods

HIDDEN = 128  # of the MLPs: four times the width of 32


def wide_tensors(model, images):
    """Count the activations as wide as an MLP's hidden layer that a forward pass keeps."""
    held, own = [], {parameter.data_ptr() for parameter in model.parameters()}
    with saved_tensors_hooks(lambda tensor: held.append(tensor) or tensor, lambda kept: kept):
        model(images)
    return len({t.data_ptr() for t in held if t.dim() > 1 and t.shape[-1] == HIDDEN} - own)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # A trained MLP keeps GELU's input, and its output as the input of the second layer.
        ("full", 12 * 2),
        # A frozen one keeps GELU's input alone, from the first trained block (3) on. Trained
        # blocks (3, 7, 11) compute GELU's output again, so they keep one as well: 3 to 11.
        ("bsr", 9),
        ("bias", 12),
        ("head", 0),
    ],
)
def test_an_mlp_keeps_gelus_input_and_its_output_only_where_that_is_not_computed_again(
    method, expected, make_vit, batch
):
    assert expected == wide_tensors(methods.load(method).prepare(make_vit()), batch[0])


def runs_of_each_block(model, batch):
    """Return how often each block runs in one step."""
    runs = [0] * len(model.blocks)

    def count(index):
        runs[index] += 1

    for index, block in enumerate(model.blocks):
        block.mlp.fc1.register_forward_pre_hook(lambda *_, index=index: count(index))
    images, labels = batch
    cross_entropy(model(images), labels).backward()
    return runs


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("full", [1] * 12),
        ("checkpoint", [2] * 11 + [1]),  # the last block's backward pass follows at once
        ("bsr+checkpoint", [1] * 3 + [2] * 8 + [1]),  # no backward pass below block 3
    ],
)
def test_checkpointing_runs_every_block_but_the_last_again(method, expected, make_vit, batch):
    assert expected == runs_of_each_block(methods.load(method).prepare(make_vit()), batch)


def test_checkpointing_keeps_one_tensor_a_block_and_the_last_block_whole(make_vit, batch):
    """The entry of each of 11 blocks, [batch, tokens, width], is all that is added by a block."""
    kept = []
    for depth in (4, 8):
        model = methods.load("checkpoint").prepare(make_vit(depth=depth))
        held = []
        with saved_tensors_hooks(lambda tensor, held=held: held.append(tensor) or tensor, _as_is):
            model(batch[0])
        own = {parameter.data_ptr() for parameter in model.parameters()}
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
        kept.append(sum(size for place, size in storages.items() if place not in own))
    entry = torch.zeros(len(batch[0]), 17, 32)

    assert kept[1] - kept[0] == 4 * entry.nbytes


def _as_is(kept):
    return kept
