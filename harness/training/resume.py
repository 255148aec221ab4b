"""Checkpoints of a long training run, which resumes from them after it was killed."""

import os
import stat
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bsrbench.harness.files import refuse_link, replace_whole
from bsrbench.harness.records.trial_record import utc_now
from bsrbench.harness.spec.frozen_data import FromFile, NotNegative, Share, Whole
from bsrbench.harness.training.loss_scaling import LossScaler
from bsrbench.harness.training.update_rules.rule_optimizer import RuleOptimizer
from bsrbench.harness.visible_text import visible

ALMOST_NEVER = 1e9
# A checkpoint holds the weights and the optimizer state of the trained weights, which with AdamW
# is twice their size. A checkpoint of this trial is at most MOST_STATES times the size of the
# weights, plus MOST_ELSE bytes.
MOST_STATES, MOST_ELSE = 8, 2**28
LONGEST = 300  # characters of a reason


class UnusableError(Exception):
    """A checkpoint cannot be read or belongs to another trial; the message names the file."""


@dataclass(frozen=True)
class CheckpointRequest:
    """The settings of a training pass's checkpoints.

    Attributes:
        file: the file; a checkpoint of an interrupted run is resumed from it.
        every_seconds: interval between checkpoints; a killed run loses at most this time.
        step_file: the file into which the training writes how many steps are done, or ``None``.
    """

    file: Path
    every_seconds: float
    step_file: Path | None = None


@dataclass
class Progress:
    """The progress of a training run.

    Attributes:
        step: number of completed steps.
        seconds: seconds spent on them.
        waited_seconds: seconds of these in which steps waited for data.
        losses: one loss per step; ``None`` if it was not finite and fp16 skipped the step.
        curve_steps: numbers of steps after which the validation split was evaluated.
        curve_seconds: seconds spent on steps until each evaluation.
        curve_accuracies: accuracy of each evaluation.
        began_at: time of the first step, UTC, ISO 8601; for a resumed run, of the original run.
    """

    step: int = 0
    seconds: float = 0.0
    waited_seconds: float = 0.0
    losses: list[float | None] = field(default_factory=list)
    curve_steps: list[int] = field(default_factory=list)
    curve_seconds: list[float] = field(default_factory=list)
    curve_accuracies: list[float] = field(default_factory=list)
    began_at: str = field(default_factory=utc_now)


class _Kept(FromFile):
    """The fields of ``Progress``, as they are in a file."""

    step: Whole
    seconds: NotNegative
    waited_seconds: NotNegative
    losses: list[float | None]
    curve_steps: list[Whole]
    curve_seconds: list[NotNegative]
    curve_accuracies: list[Share]
    began_at: str


class Checkpoint:
    """A file with all that a run needs to resume.

    This is weights, optimizers, the loss scaler, random generators and progress.

    Args:
        file: the file; ``None`` saves nothing.
        every_seconds: interval between checkpoints; a killed run loses at most this time.

    Attributes:
        failure: why checkpoints are no longer saved; empty if there was no failure.
        notes: what a reader of the trial's numbers must know.
    """

    def __init__(self, file: Path | None = None, every_seconds: float = ALMOST_NEVER) -> None:
        self._file, self._every = file, every_seconds
        self._saved = time.monotonic()
        self._ignored = False
        self.failure = ""
        self.notes: list[str] = []

    @classmethod
    def asked(cls, request: CheckpointRequest | None) -> "Checkpoint":
        """Return the checkpoint of a request; without a request, it saves nothing."""
        return cls() if request is None else cls(request.file, request.every_seconds)

    def remarks(self) -> list[str]:
        """Return what a reader of the trial's numbers must know; a failure comes last."""
        return [*self.notes, *([self.failure] if self.failure else [])]

    def due(self) -> bool:
        """Return whether it is time to save."""
        saves = self._file is not None and not self.failure
        return saves and time.monotonic() - self._saved >= self._every

    def save(
        self,
        model: torch.nn.Module,
        optimizers: tuple[Any, ...],
        progress: Progress,
        scaler: LossScaler | None = None,
    ) -> None:
        """Write the file atomically.

        If this fails, for example because the disk is full, the run continues without further
        checkpoints, and ``failure`` has the reason.
        """
        if self._file is None:
            return
        kept = {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "generator": torch.get_rng_state(),
            "generators": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "progress": asdict(progress),
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        try:
            refuse_link(self._file.parent)
            replace_whole(self._file, lambda partial: torch.save(kept, partial))
        except (OSError, RuntimeError) as error:
            self.failure = (
                f"no checkpoint after step {progress.step} ({error}): if the run is killed, it "
                "loses the steps since the last checkpoint"
            )
        self._saved = time.monotonic()

    def restore(
        self,
        model: torch.nn.Module,
        optimizers: tuple[torch.optim.Optimizer, ...],
        steps: int,
        scaler: LossScaler | None = None,
        at_step: Callable[[int], tuple[torch.optim.Optimizer, ...]] | None = None,
    ) -> Progress:
        """Load the checkpoint into a new trial, and return its progress; 0 steps without a file.

        Args:
            model: the model of the trial.
            optimizers: the optimizers of the trial.
            steps: number of steps of the trial.
            scaler: the loss scaler of the trial, if it has one.
            at_step: returns the optimizers of the step with a number, if they are not always the
                same.

        Raises:
            UnusableError: the file cannot be read, or belongs to another trial; model and
                optimizers may then contain part of it.
        """
        if self._ignored:
            return Progress()
        if self._file is None or not os.path.lexists(self._file):
            return Progress()
        try:
            _require_plausible(self._file, model)
            kept = torch.load(self._file, weights_only=True)
            model.load_state_dict(kept["model"])
            progress = _progress(kept["progress"], steps)
            if at_step is not None and progress.step:
                optimizers = at_step(progress.step - 1)
            for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
                _require_same_kind(optimizer, state)
                optimizer.load_state_dict(state)
                _require_shapes(optimizer)
            if scaler is not None:
                _resume_scaling(scaler, kept.get("scaler"))
            torch.set_rng_state(kept["generator"])
            if kept["generators"]:
                torch.cuda.set_rng_state_all(kept["generators"])
        except Exception as error:  # a strange file can raise anything
            raise UnusableError(
                visible(f"{self._file.name} cannot be used ({error!s:.{LONGEST}})")
            ) from error
        return progress

    def forget(self, why: str) -> None:
        """Ignore the file from now on, because of ``why``; the next checkpoint replaces it."""
        self.notes.append(f"there was a checkpoint, but training started from the beginning: {why}")
        self._ignored = True


def _require_plausible(file: Path, model: torch.nn.Module) -> None:
    """Check that a file can be a checkpoint of a model, before any of it is unpacked.

    Raises:
        ValueError: it is not a regular file, not an archive, or much too large.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError("it is not a regular file")
    weights = sum(t.nbytes for t in model.state_dict().values() if isinstance(t, torch.Tensor))
    most = MOST_STATES * weights + MOST_ELSE
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if max(size, file.stat().st_size) > most:
        raise ValueError(f"it has {size:,} bytes, too many for {weights:,} bytes of weights")


def _require_same_kind(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Check that a state was saved by an optimizer of the same kind.

    Raises:
        ValueError: it was saved by another one.
    """
    expected, saved = _kind(optimizer.param_groups[0]), _kind(state["param_groups"][0])
    if saved != expected:
        raise ValueError(f"it has the state of the optimizer {saved}, expected {expected}")


def _kind(group: dict[str, Any]) -> str:
    """Return the kind of the optimizer that has a group of parameters."""
    return str(group.get("rule", "adamw" if "betas" in group else "sgd"))


def _require_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Check that each tensor of the optimizer state is a scalar or has its parameter's shape.

    Raises:
        ValueError: a tensor has another shape.
    """
    if isinstance(optimizer, RuleOptimizer):  # it has checked its state itself
        return
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape not in ((), parameter.shape):
                raise ValueError(f"{name} has shape {tuple(value.shape)}")


def _resume_scaling(scaler: LossScaler, kept: Any) -> None:
    """Set a loss scaler to its state in a checkpoint.

    Raises:
        ValueError: the checkpoint has none, or it is not valid.
    """
    if kept is None:
        raise ValueError("it has no loss scale, which fp16 needs")
    scaler.load_state_dict(kept)


def _progress(kept: dict[str, Any], most_steps: int) -> Progress:
    """Return the progress that a checkpoint contains.

    Raises:
        ValueError: a run of ``most_steps`` cannot have this progress.
    """
    stored = _Kept.model_validate(kept)
    lengths = {len(stored.curve_steps), len(stored.curve_seconds), len(stored.curve_accuracies)}
    if not 0 <= stored.step == len(stored.losses) <= most_steps or len(lengths) > 1:
        raise ValueError("its steps, losses and readings do not fit each other")
    return Progress(**stored.model_dump())
