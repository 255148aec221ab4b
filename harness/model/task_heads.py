"""Tasks that take turns on one model, each with its own head."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(eq=False)
class TaskTurn:
    """Whose turn it is; all heads and gates of a model share one.

    Attributes:
        task: counted from 0.
        tasks: how many there are.
    """

    tasks: int
    task: int = 0


class TaskHeads(nn.ModuleList):
    """A linear head for each task.

    Args:
        heads: in the order of the tasks.
        turn: says whose turn it is.
    """

    def __init__(self, heads: list[nn.Module], turn: TaskTurn) -> None:
        super().__init__(heads)
        self.turn = turn

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits [batch, classes] of the task whose turn it is."""
        logits: Tensor = self[self.turn.task](features)
        return logits


def turn_of(model: nn.Module) -> TaskTurn | None:
    """Return who says whose turn it is; ``None`` where there is one task."""
    return next((part.turn for part in model.modules() if isinstance(part, TaskHeads)), None)


def turns(model: nn.Module) -> Iterator[int]:
    """Give every task its turn, one after the other, and the first one its own again."""
    turn = turn_of(model)
    for task in range(turn.tasks if turn else 1):
        if turn:
            turn.task = task
        yield task
    if turn:
        turn.task = 0
