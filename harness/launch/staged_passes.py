"""Reuse the results of passes that an interrupted run has stored, if they are valid."""

from collections.abc import Callable

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.store import Store
from bsrbench.harness.trial.pass_result import PassResult, read_pass
from bsrbench.harness.visible_text import visible

Tell = Callable[[str], object]


def kept_pass(store: Store, key: str, name: str, tell: Tell) -> PassResult | None:
    """Return the stored result of a pass; ``None`` if there is none, or it cannot be used.

    Args:
        store: the results folder.
        key: key of the trial's record.
        name: name of the pass.
        tell: called with the reason why a stored result is not used.
    """
    try:
        staged = store.staged(key, name)
        return None if staged is None else read_pass(staged)
    except BadInput as error:
        tell(unused(key, name, error))
        return None


def unused(key: str, name: str, error: BadInput) -> str:
    """Return a line that says why a stored result is not used."""
    return visible(f"the stored {name} of {key} cannot be used and is measured again: {error}")
