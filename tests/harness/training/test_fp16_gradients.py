"""The gradients of every method in fp16 are near those in fp32."""

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.conformance.steps import FP16_SCALE
from bsrbench.harness.conformance.subject import Subject, terms, tiny_batch, trained
from tests.test_method_conformance import ALONE, COMPOSED

# Relative distance. fp16 has 11 significant bits, so exact methods are within 0.002. Codes of 2 to
# 8 bits can change by one level, since they are made of rounded activations: measured 0.034.
BOUND = 0.1
BOUND_OF_EXACT = 0.005
# Exact for the tokens that it keeps; rounding changes one of them, in one of the 16 images.
KEEPS_ANOTHER_TOKEN = {"sparse_tuning": 0.02, "sparse_tuning+checkpoint": 0.02}


def gradient_of(method, model, precision):
    """Return all gradients of a training step as one vector; random codes are drawn alike."""
    torch.manual_seed(5)
    scale = FP16_SCALE if precision == "fp16" else 1.0
    asked = terms(method, model, tiny_batch())
    while True:
        with torch.autocast("cpu", torch.float16, enabled=precision == "fp16"):
            term = next(asked, None)
        if term is None:
            break
        (term * scale).backward()
    gradients = [parameter.grad for parameter in trained(model) if parameter.grad is not None]
    return torch.cat([gradient.flatten() for gradient in gradients]) / scale


@pytest.mark.parametrize("name", [*ALONE, *COMPOSED])
def test_gradients_are_near_those_in_fp32(name):
    subject = Subject(name, methods.find, methods.load)
    exact, rounded = subject.prepared(), subject.prepared()
    rounded.load_state_dict(exact.state_dict())
    expected = gradient_of(subject.method(), exact, "fp32")
    gradient = gradient_of(subject.method(), rounded, "fp16")
    exact_bound = KEEPS_ANOTHER_TOKEN.get(name, BOUND_OF_EXACT)
    bound = BOUND if subject.method().gradient_error else exact_bound

    assert 0 < (gradient - expected).norm() <= bound * expected.norm()
