"""Memory that a step of one's own keeps or reads is counted as what it is."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from bsrbench import profile

MIB = 2**20
MANY = 50 * MIB


def many():
    return torch.zeros(MANY, dtype=torch.uint8)


KEEPERS = {
    "an attribute of the model": lambda model, _: setattr(model, "memory", many()),
    "a list in the step": lambda _, held: held.append(many()),
    "a dictionary in a list in the step": lambda _, held: held.append({"deep": many()}),
}


@pytest.mark.parametrize("way", KEEPERS)
def test_memory_that_is_kept_is_seen(way, own):
    model, optimizer, step = own
    held = []

    def holding():
        return step(), len(held)

    plain = profile(model, holding, optimizer, repeats=1)
    KEEPERS[way](model, held)
    found = profile(model, holding, optimizer, repeats=1)

    assert found.at_peak_bytes["kept"] == MANY
    assert found.peak_counted_bytes == plain.peak_counted_bytes + MANY
    assert "at the peak: kept: 50.0 MiB" in str(found)


def test_memory_that_the_first_run_of_a_step_leaves_is_seen(own):
    model, optimizer, step = own

    def holding():
        if not hasattr(holding, "memory"):
            holding.memory = many()
        step()

    assert profile(model, holding, optimizer, repeats=1).at_peak_bytes["kept"] == MANY


def test_what_a_step_reads_beside_the_model_are_its_inputs(own, batch):
    """Of all images in one tensor those of a batch are cut out: the whole is there."""
    model, optimizer, _ = own
    images = torch.randn(64, 3, 32, 32)

    def step():
        optimizer.zero_grad()
        cross_entropy(model(images[:16]), batch[1]).backward()
        optimizer.step()

    inputs = profile(model, step, repeats=1).at_peak_bytes["inputs"]

    assert inputs == images.nbytes + batch[1].nbytes


@pytest.mark.parametrize("loader", [False, True])
def test_a_data_set_is_no_part_of_a_step(loader, own):
    """It is there anyhow; a batch that is made of it is."""
    model, optimizer, _ = own
    images = TensorDataset(torch.zeros(6400, 3, 32, 32), torch.zeros(6400, dtype=torch.int64))
    loaded = iter(DataLoader(images, batch_size=16)) if loader else None

    def step():
        optimizer.zero_grad()
        pixels, labels = next(loaded) if loader else images[:16]
        cross_entropy(model(pixels), labels).backward()
        optimizer.step()

    found = profile(model, step, optimizer, repeats=1)

    assert found.at_peak_bytes["inputs"] + found.at_peak_bytes["kept"] == 0
    assert found.peak_counted_bytes < 8 * MIB  # all images are 75 MiB
