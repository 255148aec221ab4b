"""The scaling of the loss in fp16, and the optimizer steps that it skips."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bsrbench.harness.spec.frozen_data import FromFile, Rate, Whole
from bsrbench.harness.torch_internals.eager_internals import tensors_of_scaler

# torch begins with the scale 2**16 and halves it at each skipped step. So after 16 skipped steps
# in a row the loss is no longer scaled up. If the next step overflows too, scaling cannot help.
# Later the scale only doubles, after 2000 steps without an overflow, and one halving undoes this.
MOST_IN_A_ROW = 16


class _KeptScaler(FromFile):
    """The state of a ``LossScaler``, as it is in a file."""

    scale: Rate
    steps_since_change: Whole
    skipped: Whole
    in_a_row: Whole


class LossScaler:
    """Scales losses by one factor, skips an optimizer step that overflows, and counts these steps.

    This is torch's ``GradScaler`` with its default settings. It passes its scale and its finding
    to the fused kernel of the optimizer, which then leaves the weights unchanged. So a step reads
    no value back to the host, a skipped step needs the memory of any other step, and both run over
    fake tensors.

    Args:
        device: the device of the job.

    Attributes:
        skipped: optimizer steps that were skipped, when ``read`` was called last.
        in_a_row: skipped optimizer steps since the last one that was not, at the same moment.
    """

    def __init__(self, device: torch.device) -> None:
        self.skipped = self.in_a_row = 0
        self._scaler = torch.amp.GradScaler(device.type)
        self._scaler.scale(torch.zeros((), device=device))  # makes its tensors before any step
        self._counts = torch.zeros(2, device=device)  # skipped, in a row

    def watch(self, optimizers: tuple[torch.optim.Optimizer, ...]) -> None:
        """Count the steps of new optimizers, which have fused kernels."""
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(self._count)

    def held(self) -> Iterator[Tensor]:
        """Yield the tensors of shape [] or [2] that live between steps."""
        yield from tensors_of_scaler(self._scaler)
        yield self._counts

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the scale times a loss of any shape."""
        return self._scaler.scale(loss)

    def step(
        self, optimizer: torch.optim.Optimizer, trained: list[Tensor], clip_norm: float | None
    ) -> None:
        """Do the optimizer step if all gradients are finite, and adjust the scale.

        Args:
            optimizer: the optimizer.
            trained: its parameters, of any shape, with gradients of the scaled loss.
            clip_norm: bound on the norm of all gradients of the loss itself.
        """
        if clip_norm is not None:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(trained, clip_norm)
        _make_momentum(optimizer)
        self._scaler.step(optimizer)
        self._scaler.update()

    def read(self) -> int:
        """Read the counts from the device; return how many more steps were skipped since then."""
        before = self.skipped
        self.skipped, self.in_a_row = (int(count) for count in self._counts.tolist())
        return self.skipped - before

    def scale(self) -> float:
        """Read the scale of the next step from the device."""
        return self._scaler.get_scale()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        self.read()
        state = self._scaler.state_dict()
        return {
            "scale": state["scale"],
            "steps_since_change": state["_growth_tracker"],
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, stored: Mapping[str, Any]) -> None:
        """Continue from the state in a checkpoint.

        Raises:
            ValueError: it is not a state of a ``LossScaler``.
        """
        kept = _KeptScaler.model_validate(stored)
        changes = {"scale": kept.scale, "_growth_tracker": kept.steps_since_change}
        self._scaler.load_state_dict(self._scaler.state_dict() | changes)
        self._counts.copy_(torch.tensor([kept.skipped, kept.in_a_row]))
        self.read()

    def _count(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Count a step that ``GradScaler`` begins; its kernel skips it if ``found_inf`` is 1."""
        found = getattr(optimizer, "found_inf", None)
        if found is None:  # a step that makes the optimizer's state for a prediction
            return
        skipped, in_a_row = self._counts
        skipped.add_(found)
        in_a_row.add_(1).mul_(found)


def _make_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give SGD its momentum buffers, filled with zeros, before the first step of a parameter.

    torch 2.9 to 2.14 make them of uninitialised memory. A first step that is skipped does not fill
    them, and the next step adds them to the gradient. With zeros, the first step is the same.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if not group["momentum"]:
            continue
        for parameter in group["params"]:
            state = optimizer.state[parameter] if parameter.grad is not None else None
            if state is not None and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)
