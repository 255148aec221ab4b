"""Passes that an interrupted run has kept: taken if they are what a pass answers."""

from collections.abc import Callable

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.store import Store
from bsrbench.harness.trial.pass_result import PassResult, read_pass
from bsrbench.harness.visible_text import visible

Tell = Callable[[str], object]


def kept_pass(store: Store, key: str, name: str, tell: Tell) -> PassResult | None:
    """Return a pass that is kept; ``None`` where none is, or one that cannot be used.

    Args:
        store: the results folder.
        key: of the trial's record.
        name: of the pass.
        tell: is told why one is not used.
    """
    try:
        staged = store.staged(key, name)
        return None if staged is None else read_pass(staged)
    except BadInput as error:
        tell(unused(key, name, error))
        return None


def unused(key: str, name: str, error: BadInput) -> str:
    """Return in a line why something that is kept is not used."""
    return visible(f"what is kept of {key} ({name}) cannot be used and is measured again: {error}")
