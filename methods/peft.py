"""Any tuner of the peft library that can adapt the layers of a vision transformer's blocks."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import head
from bsrbench.methods.parts.peft_tuners import FACTS, configuration, put_in, usual_targets
from bsrbench.methods.parts.trained_parameters import require_all_train
from bsrbench.methods.parts.tuner_budget import TunerBudget

DEFAULT = "lora"


@dataclass(frozen=True)
class PeftTuner(Method):
    """Train the parameters that a tuner of peft puts into every block, and the head.

    Stores what the layers of the tuner need, mostly the inputs of the adapted layers, and all that
    the gradient needs to reach the first block. Approximates nothing, and starts from the
    pretrained model, with most tuners; results/capabilities says what was found of each. Does not
    save the backward pass through all blocks, but gradients, optimizer state and the inputs of
    frozen layers; some tuners add FLOPs and memory, because they make a changed weight whole.

    A tuner that allots a budget between steps (AdaLoRA) reads the gradients after each optimizer
    step, as in peft's example, counting steps from 0. Its penalty for vectors that are not
    orthogonal is not added to the loss, because peft adds it only to models that return their own
    loss. What such a tuner remembers is part of a checkpoint.

    Attributes:
        tuner: name of the tuner in the installed peft, in lower case.
        targets: layers of every block to adapt, for example qkv, proj, fc1, fc2; if none are
            named, qkv, and norm1 and norm2 for ``ln_tuning``.
        settings: settings of the tuner, by their names in peft's configuration class; the others
            have peft's defaults.
    """

    tuner: str = DEFAULT
    targets: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict, hash=False)

    source = "official code: the peft library, whose documentation names the paper of each tuner"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})

    def __post_init__(self) -> None:
        names = all(map(str.isidentifier, self.targets))
        if not names or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets {self.targets} must be different names of layers")
        for fact, value in FACTS.get(self.tuner, {}).items():
            object.__setattr__(self, fact, value)
        if self.tuner == DEFAULT and not self.settings:
            return  # valid in every peft, whose import is slow
        try:
            configuration(self.tuner, self._layers(), self.settings)
        except ImportError:
            return  # prepare() says what to install

    def prepare(self, model: nn.Module) -> nn.Module:
        """Put the tuner's layers into every block with peft; freeze all else except the head.

        Raises:
            Unsupported: peft cannot be loaded or cannot apply the tuner, or the model is already
                prepared.
        """
        require_all_train(model)
        made = put_in(model, self.tuner, self._layers(), self.settings)
        head(model).requires_grad_(True)
        if hasattr(made, "rankallocator"):
            model.add_module("tuner_budget", budget := TunerBudget(made, self.tuner))
            object.__setattr__(self, "_budget", budget)
        return model

    def step_done(self) -> None:
        """Let a tuner that allots a budget do so, while gradients exist."""
        budget = getattr(self, "_budget", None)
        if budget is not None:
            budget.step_done()

    def _layers(self) -> tuple[str, ...]:
        return self.targets or usual_targets(self.tuner)
