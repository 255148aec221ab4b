"""Several tasks that train one model in turn, each with a head of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(eq=False)
class TaskTurn:
    """The current task of a model; all heads and gates of the model share one instance.

    Attributes:
        task: index of the current task, from 0.
        tasks: number of tasks.
    """

    tasks: int
    task: int = 0


class TaskHeads(nn.ModuleList):
    """One linear head per task.

    Args:
        heads: the heads in the order of the tasks.
        turn: the object that holds the current task.
    """

    def __init__(self, heads: list[nn.Module], turn: TaskTurn) -> None:
        super().__init__(heads)
        self.turn = turn

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits [batch, classes] of the current task."""
        logits: Tensor = self[self.turn.task](features)
        return logits


def turn_of(model: nn.Module) -> TaskTurn | None:
    """Return the object that holds the model's current task; ``None`` if there is one task."""
    return next((part.turn for part in model.modules() if isinstance(part, TaskHeads)), None)


def turns(model: nn.Module) -> Iterator[int]:
    """Make each task the current one in turn, and yield its index; then reset to the first."""
    turn = turn_of(model)
    for task in range(turn.tasks if turn else 1):
        if turn:
            turn.task = task
        yield task
    if turn:
        turn.task = 0
