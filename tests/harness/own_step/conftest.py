"""A step as people write it."""

import pytest
import torch
from torch.nn.functional import cross_entropy


@pytest.fixture
def own(make_vit, batch):
    """Return a model of two blocks, an optimizer and a step as people write them."""
    model = make_vit(depth=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step():
        optimizer.zero_grad()
        cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    return model, optimizer, step
