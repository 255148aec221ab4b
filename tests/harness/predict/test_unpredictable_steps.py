"""What cannot be predicted of a step is missing with the reason."""

from dataclasses import dataclass

import pytest
import torch

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.predict.estimate import predict

RAN = []


@torch.library.custom_op("bsrbench_tests::shapeless", mutates_args=())
def shapeless(x: torch.Tensor) -> torch.Tensor:
    """Be an operator that does not say what shape its output has."""
    RAN.append(x.shape)
    return x.clone()


shapeless.register_autograd(lambda _, gradient: gradient)


def bare(x: torch.Tensor) -> torch.Tensor:
    """Be a kernel for CPUs, of an operator in a namespace that torch runs to learn its shape."""
    RAN.append(x.shape)
    return x.clone()


NAMESPACE = torch.library.Library("quantized", "FRAGMENT")
NAMESPACE.define("bsrbench_tests_bare(Tensor x) -> Tensor")
NAMESPACE.impl("bsrbench_tests_bare", bare, "CPU")


def by_value(output):
    return output * output.sum().item()


def by_choice(output):
    return output[output > 0]


def by_unknown(output):
    return shapeless(output)


def by_kernel(output):
    return output + torch.ops.quantized.bsrbench_tests_bare(output.detach())


@dataclass(frozen=True)
class Changed(Method):
    """Full fine-tuning with something done to the logits."""

    change: str = ""

    source = "a test"
    exact_forward = False
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        change = {f.__name__: f for f in (by_value, by_choice, by_unknown, by_kernel)}[self.change]
        model.head.register_forward_hook(lambda _, __, output: change(output))
        return model


DATA = "the step's shapes or values depend on data: "


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("by_value", f"{DATA}aten._local_scalar_dense.default"),
        ("by_choice", f"{DATA}aten.nonzero.default"),
        ("by_kernel", f"{DATA}quantized.bsrbench_tests_bare.default"),
        ("by_unknown", "an operator does not define the shape of its output: "),
    ],
)
def test_what_cannot_be_predicted_is_missing_with_the_reason(change, reason, make_spec):
    """Operators of unknown shape do not run for a prediction."""
    RAN.clear()
    found = predict(make_spec("changed"), lambda _: Changed(change))

    assert not {"peak_estimated_bytes", "step_flop"} & set(found.measurements)
    for name in ("peak_estimated_bytes", "step_flop"):
        assert found.missing[name].text.startswith(reason)
    assert "\n" not in found.missing["peak_estimated_bytes"].text
    assert found.measurements["trained_parameters"] > 0
    assert RAN == []
