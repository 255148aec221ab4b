"""Read the progress file of a run, which 'bsrbench status' shows."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from bsrbench.harness.errors import BadInput, explain
from bsrbench.harness.plain_data import LARGEST
from bsrbench.harness.spec.frozen_data import FromFile, NotNegative, Whole
from bsrbench.harness.visible_text import visible, visible_in

MOST_PROCESSES = 2**31  # process ids are smaller


class RunState(FromFile):
    """The content of the file that ``launch.progress`` writes; without counts before a run begins.

    Attributes:
        state: state of the run.
        pid: id of its process on ``host``.
        at: time of writing, in seconds since 1970.
    """

    model_config = ConfigDict(extra="ignore")  # a newer program may write more keys

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
        """Return the content of a progress file, with control characters escaped.

        Raises:
            BadInput: the file is not one that a run writes.
        """
        try:
            run_state = cls.model_validate(visible_in(data))
        except ValidationError as error:
            raise BadInput(visible(str(explain(error, str(path))))) from error
        return run_state.model_dump(exclude_unset="trials" not in data)
