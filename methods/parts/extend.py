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


def require_unextended(model: nn.Module, method: str) -> None:
    """Check that no method has put behaviour into the model yet.

    Raises:
        Unsupported: one has, and would not see what ``method`` adds.
    """
    for name, module in model.named_modules():
        if type(module).__module__ == __name__:
            raise Unsupported(
                f"{name} is a {type(module).__name__} already, and whoever made it so would not "
                f"see what {method} adds: name {method} first"
            )
