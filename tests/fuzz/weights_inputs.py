"""Inputs of weights, in each form in which they are published."""

import functools
import io

import timm
import torch

from bsrbench.harness.workload import weights
from tests.fuzz import mutate
from tests.fuzz.input_files import write_input
from tests.harness.workload.test_own_weights import write_jax


def small_vit():
    torch.manual_seed(0)
    return timm.create_model("test_vit", depth=1, embed_dim=16, num_heads=2, num_classes=3)


_filled = functools.cache(small_vit)  # by one input after the other, with whatever they hold


def _saved(**how):
    with io.BytesIO() as written:
        torch.save(small_vit().state_dict(), written, **how)
        return written.getvalue()


def pickled():
    """Return checkpoints of both of torch's formats."""
    return [_saved(), _saved(), _saved(_use_new_zipfile_serialization=False)]


def some_checkpoint(draw, content, others=()):
    """Return a checkpoint with a part changed, of the format that is an archive."""
    change = mutate.some_zip if content.startswith(b"PK") else mutate.some_bytes
    return change(draw, content, others)


def jax():
    """Return weights as JAX's models are published."""
    with io.BytesIO() as written:
        write_jax(small_vit(), written)
        return [written.getvalue()]


def read_weights(ending, content, place):
    write_input(place, f"any.{ending}", content)
    weights.load_into(_filled(), f"file:any.{ending}")
