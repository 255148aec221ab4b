"""Give one module of a model more behaviour without renaming or copying anything."""

from typing import Any

from torch import nn

from harness.method import Unsupported


def extend(module: nn.Module, behaviour: type[nn.Module], **attributes: Any) -> None:
    """Put ``behaviour`` in front of the module's class, in place, and set its attributes.

    The module stays the same object with the same parameters, hooks and state-dict names;
    ``super().forward`` inside ``behaviour`` is what the module did before. It is the way of
    torch's ``parametrize`` and ``fully_shard``.

    Raises:
        Unsupported: the module has this behaviour already.
    """
    if isinstance(module, behaviour):
        raise Unsupported(f"the model is already prepared: it has {behaviour.__name__} modules")
    before = type(module)
    module.__class__ = type(f"{behaviour.__name__}{before.__name__}", (behaviour, before), {})
    for name, value in attributes.items():
        setattr(module, name, value)
