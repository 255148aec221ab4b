"""The optimizers of a search, and how their learning rates differ from AdamW's."""

from collections.abc import Iterable

from pydantic import ValidationError

from bsrbench.harness.errors import BadInput, explain, unknown
from bsrbench.harness.spec.optimizer_names import (
    DEFAULTS,
    MOMENTUM,
    OPTIMIZERS,
    optimizer_of_words,
)
from bsrbench.harness.spec.optimizer_options import OptimizerOptions
from bsrbench.harness.spec.trial_spec import Workload

# Learning rates that suit an optimizer, divided by those that suit AdamW: what the suite optimizers
# chose; for lion, between that (1) and a tenth, which its authors advise. They only place the rates
# to try, as many for each optimizer. The rate of sgd is for a momentum of 0; a momentum m adds up
# 1 / (1 - m) steps.
USUAL_RATES = {
    "sgd": 3000.0,
    "adamw": 1.0,
    "adamw8": 1.0,
    "adamw4": 1.0,
    "adafactor": 30.0,
    "lion": 0.3,
    "galore": 10.0,
    "apollo": 3.0,
    "apollo-mini": 1.0,
}


def usual_rate(workload: Workload) -> float:
    """Return a learning rate that suits a workload's optimizer, divided by one for AdamW."""
    rate = USUAL_RATES[workload.optimizer]
    return rate * (1 - workload.momentum) if workload.optimizer == "sgd" else rate


def workloads_with(workload: Workload, optimizers: Iterable[str]) -> list[Workload]:
    """Return a workload, and then the same workload with other optimizers, each once.

    Args:
        workload: the workload.
        optimizers: as in labels, for example ``galore rank=64``.

    Raises:
        BadInput: one is not an optimizer, or does not have such an option.
    """
    workloads = [workload, *(_with(workload, words) for words in optimizers)]
    return list({each.optimizer_in_words(): each for each in workloads}.values())


def _with(workload: Workload, words: str) -> Workload:
    keys = optimizer_of_words(words)
    if keys is None:
        name = words.partition(" ")[0]
        if name not in OPTIMIZERS:
            raise unknown("optimizer", name, OPTIMIZERS)
        own = ", ".join(DEFAULTS[name]) or MOMENTUM
        raise BadInput(
            f"--optimizers: {words!r} is not an optimizer with numbers for its options ({own}), as "
            "in 'galore rank=64 refresh_steps=100'"
        )
    try:
        return Workload(**workload.model_dump() | keys)
    except ValidationError as error:
        raise explain(error, "--optimizers", OptimizerOptions.model_fields) from error
