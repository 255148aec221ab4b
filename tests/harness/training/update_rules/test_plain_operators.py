"""Every update rule needs torch's own operators only, so it runs on every device of torch.

No optimizer needs a kernel or a library that a device or a machine may lack.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bsrbench.harness.spec.optimizer_names import OPTIMIZERS
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.update_rules.choice import rule_of
from bsrbench.harness.training.update_rules.rule_optimizer import Update

OURS = [name for name in OPTIMIZERS if name not in {"sgd", "adamw"}]


class Namespaces(TorchDispatchMode):
    """Notes the libraries of the operators that run."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(func.namespace)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", OURS)
def test_an_update_has_torchs_own_operators_only(name):
    rule = rule_of(Workload(model="test_vit", batch=1, optimizer=name))
    parameter, gradient = torch.ones(96, 64), torch.ones(96, 64)
    with Namespaces() as namespaces:
        rule.update(parameter, gradient, rule.begin(parameter), Update(1, 0.1, 0.1, 0))

    assert bool((parameter != 1).any())
    assert namespaces.seen <= {"aten", "prim"}
