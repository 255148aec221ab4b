"""Give one module of a model more behaviour without renaming or copying anything."""

from typing import Any

from torch import nn

from bsrbench.harness.method import Unsupported

EXTENDED = "extended_in_place"  # marks the classes made here


def extend(
    module: nn.Module, behaviour: type[nn.Module], *, inside: bool = False, **attributes: Any
) -> None:
    """Put ``behaviour`` in front of the module's class, in place, and set its attributes.

    The module stays the same object with the same parameters, hooks and state-dict names;
    ``super().forward`` inside ``behaviour`` is what the module did before. It is the way of
    torch's ``parametrize`` and ``fully_shard``.

    Args:
        module: what to extend.
        behaviour: replaces or surrounds what the module does.
        inside: put it behind what was put in front before, for one that replaces: what surrounds
            the module, such as checkpointing, then surrounds the replacement.
        attributes: set on the module.

    Raises:
        Unsupported: the module has this behaviour already.
    """
    if isinstance(module, behaviour):
        raise Unsupported(f"the model is already prepared: it has {behaviour.__name__} modules")
    made = type(module)
    surrounding = []
    while inside and EXTENDED in vars(made):
        outer, made = made.__bases__
        surrounding.append(outer)
    for front in (behaviour, *reversed(surrounding)):
        made = type(f"{front.__name__}{made.__name__}", (front, made), {EXTENDED: True})
    module.__class__ = made
    for name, value in attributes.items():
        setattr(module, name, value)


def own_class(module: nn.Module) -> type[nn.Module]:
    """Return the class a module had before anything was put in front of it."""
    made = type(module)
    while EXTENDED in vars(made):
        made = made.__bases__[1]
    return made


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
