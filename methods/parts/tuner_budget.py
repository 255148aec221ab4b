"""The state that a tuner of peft keeps between steps, as part of a model's checkpoint."""

from typing import Any

from torch import nn

from bsrbench.harness.method import Unsupported
from bsrbench.harness.torch_internals.eager_internals import makes_fake_tensors

TABLES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # parameter name -> importance, in AdaLoRA


class TunerBudget(nn.Module):
    """Calls a tuner after each step and puts what it remembers into the model's state dict.

    peft keeps the importance of parameters, and which of them are masked, in plain attributes.
    Without them, a resumed training would differ from one that was never interrupted.

    Args:
        tuner: peft's tuner; it is not a submodule, because it contains the model.
        name: its name, for messages.
    """

    def __init__(self, tuner: Any, name: str) -> None:
        super().__init__()
        self._held = (tuner,)
        self._name = name
        self._steps = 0

    def step_done(self) -> None:
        """Let the tuner allot its budget by the gradients of the step that was done.

        Raises:
            Unsupported: the gradients have been dropped already.
        """
        (tuner,) = self._held
        own = [p for name, p in tuner.model.named_parameters() if "lora_" in name]
        if any(parameter.requires_grad and parameter.grad is None for parameter in own):
            raise Unsupported(
                f"{self._name} reads all gradients after each step, but with "
                "optimizer_in_backward they are freed before: leave it out"
            )
        if makes_fake_tensors():  # which parameters are masked depends on their values
            tuner.rankallocator.update_ipt(tuner.model)
        else:
            tuner.update_and_allocate(self._steps)
        self._steps += 1

    def get_extra_state(self) -> dict[str, Any]:
        """Return the number of steps, the importance of parameters and what is masked."""
        allocator, config = self._allocator()
        tables = {table: dict(getattr(allocator, table)) for table in TABLES}
        return {"steps": self._steps, "rank_pattern": config.rank_pattern, **tables}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what ``get_extra_state`` returned."""
        allocator, config = self._allocator()
        self._steps, config.rank_pattern = state["steps"], state["rank_pattern"]
        for table in TABLES:
            setattr(allocator, table, dict(state[table]))

    def _allocator(self) -> tuple[Any, Any]:
        (tuner,) = self._held
        return tuner.rankallocator, tuner.peft_config[tuner.trainable_adapter_name]
