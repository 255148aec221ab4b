"""How far a run has come, as it keeps it for 'bsrbench status': read with the types it has."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from bsrbench.harness.errors import BadInput, explain
from bsrbench.harness.plain_data import LARGEST
from bsrbench.harness.spec.frozen_data import FromFile, NotNegative, Whole
from bsrbench.harness.visible_text import visible, visible_in

MOST_PROCESSES = 2**31  # the system's ids are below it


class RunState(FromFile):
    """What ``bsrbench.harness.launch.progress`` writes; of a run that has not begun there is no count.

    Attributes:
        state: what the run says of itself.
        pid: id of its process, on ``host``.
        at: when that was, seconds since 1970.
    """

    model_config = ConfigDict(extra="ignore")  # a newer program may say more

    state: Literal["running", "finished", "stopped"]
    pid: Annotated[int, Field(ge=1, lt=MOST_PROCESSES)]
    host: str
    at: Annotated[float, Field(gt=-LARGEST, lt=LARGEST)]
    trials: Whole = 0
    completed: Whole = 0
    failed: Whole = 0
    left: int = 0
    passes: Whole = 0
    passes_done: Whole = 0
    seconds: float = 0.0
    left_seconds: NotNegative | None = None
    what: str = "starting"

    @classmethod
    def read(cls, path: Path, data: dict[str, Any]) -> dict[str, Any]:
        """Return what a file says of a run, text made visible.

        Raises:
            BadInput: it is none that a run writes.
        """
        try:
            found = cls.model_validate(visible_in(data))
        except ValidationError as error:
            raise BadInput(visible(str(explain(error, str(path))))) from error
        return found.model_dump(exclude_unset="trials" not in data)
