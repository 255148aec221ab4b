"""A model at a small side of its images, where it can be made for one."""

import torch

from tests.walk import listing
from tests.walk.cells import Subject

BREAKS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)  # of torch and timm


def subject_of(name: str) -> Subject:
    """Return a model at a small side of its images if they go through it, else at its own."""
    small = Subject(name, listing.small_side(name))
    return small if small.side is None or _goes_through(small) else Subject(name, None)


def _goes_through(subject: Subject) -> bool:
    model = subject.model(subject.cut).eval()
    try:
        with torch.no_grad():
            model(torch.empty(1, 3, subject.pixels, subject.pixels, device="meta"))
    except BREAKS:
        return False
    return True
