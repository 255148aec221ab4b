"""The update rule of a workload's optimizer."""

from typing import Any

import torch

from bsrbench.harness.spec.optimizer_options import all_options
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.update_rules.adafactor import Adafactor
from bsrbench.harness.training.update_rules.adam_moments import AdamMoments
from bsrbench.harness.training.update_rules.apollo import Apollo
from bsrbench.harness.training.update_rules.block_codes import BlockCodes
from bsrbench.harness.training.update_rules.blockwise_adamw import BlockwiseAdamW
from bsrbench.harness.training.update_rules.galore import GaLore
from bsrbench.harness.training.update_rules.lion import Lion
from bsrbench.harness.training.update_rules.projection import Projection
from bsrbench.harness.training.update_rules.rule_optimizer import UpdateRule

BITS = {"adamw8": 8, "adamw4": 4}


def rule_of(workload: Workload) -> UpdateRule | None:
    """Return the rule of a workload's optimizer; ``None`` if torch has a fused one."""
    name = workload.optimizer
    options: dict[str, Any] = all_options(name, workload.optimizer_options)
    if name in BITS:
        return BlockwiseAdamW(_adam(options), BlockCodes(BITS[name], options["block_size"]))
    if name == "adafactor":
        return Adafactor(options["beta2_decay"], options["clip_threshold"], options["least_scale"])
    if name == "lion":
        return Lion(options["beta1"], options["beta2"])
    if name == "galore":
        projection = Projection(options["rank"])
        return GaLore(_adam(options), projection, options["refresh_steps"], options["scale"])
    if name in {"apollo", "apollo-mini"}:
        mini = name == "apollo-mini"
        return Apollo(
            _adam(options),
            Projection(1 if mini else options["rank"]),
            options["refresh_steps"],
            options["scale"],
            options["norm_growth"],
            per_matrix=mini,
            seed=torch.initial_seed(),
        )
    return None


def _adam(options: dict[str, Any]) -> AdamMoments:
    return AdamMoments(options["beta1"], options["beta2"], options["eps"])
