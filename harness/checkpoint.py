"""What a long training run keeps from time to time, so that it can go on where it was killed."""

import pickle
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.errors import BadInput
from harness.files import replace_whole
from harness.record import utc_now

ALMOST_NEVER = 1e9
DAMAGES = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError),
    pickle.UnpicklingError,
)


@dataclass
class Progress:
    """How far a training run has come.

    Attributes:
        step: steps done.
        seconds: spent on them.
        losses: one a step.
        curve_steps: after how many steps the validation split was read.
        curve_seconds: spent on steps until then.
        curve_accuracies: what was read.
        began_at: when the first step began, UTC, ISO 8601; of a run that was interrupted, when
            the run before did.
    """

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    curve_steps: list[int] = field(default_factory=list)
    curve_seconds: list[float] = field(default_factory=list)
    curve_accuracies: list[float] = field(default_factory=list)
    began_at: str = field(default_factory=utc_now)


class Checkpoint:
    """A file that holds all a run depends on: numbers, optimizers, generators, progress.

    Args:
        file: where; ``None`` keeps nothing.
        every_seconds: how long a kill may throw back.

    Attributes:
        failure: why nothing is kept any more; empty as long as all goes well.
    """

    def __init__(self, file: Path | None = None, every_seconds: float = ALMOST_NEVER) -> None:
        self._file, self._every = file, every_seconds
        self._saved = time.monotonic()
        self.failure = ""

    def due(self) -> bool:
        """Return whether it is time to save."""
        wanted = self._file is not None and not self.failure
        return wanted and time.monotonic() - self._saved >= self._every

    def save(self, model: torch.nn.Module, optimizers: tuple[Any, ...], progress: Progress) -> None:
        """Write the file, whole or not at all.

        A full disk ends the keeping, and not the run; ``failure`` says so.
        """
        if self._file is None:
            return
        kept = {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "generator": torch.get_rng_state(),
            "generators": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "progress": asdict(progress),
        }
        try:
            replace_whole(self._file, lambda partial: torch.save(kept, partial))
        except (OSError, RuntimeError) as error:
            self.failure = (
                f"no checkpoint after step {progress.step} ({error}): a kill loses the run"
            )
        self._saved = time.monotonic()

    def restore(
        self, model: torch.nn.Module, optimizers: tuple[torch.optim.Optimizer, ...]
    ) -> Progress:
        """Put what was saved into a trial made anew, and return how far it had come.

        Raises:
            BadInput: the file cannot be read, or is of another trial.
        """
        if self._file is None or not self._file.exists():
            return Progress()
        try:
            kept = torch.load(self._file, weights_only=True)
            model.load_state_dict(kept["model"])
            for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            torch.set_rng_state(kept["generator"])
            if kept["generators"]:
                torch.cuda.set_rng_state_all(kept["generators"])
            return Progress(**kept["progress"])
        except DAMAGES as error:
            raise BadInput(
                f"the checkpoint {self._file.name} cannot be gone on from ({error}); "
                "remove it to train from the start"
            ) from error
