"""Add behaviour to one module of a model in place, without renaming or copying anything."""

from typing import Any

from torch import nn

from bsrbench.harness.method import Unsupported

EXTENDED = "extended_in_place"  # attribute of the classes that ``extend`` makes


def extend(
    module: nn.Module, behaviour: type[nn.Module], *, inside: bool = False, **attributes: Any
) -> None:
    """Replace the module's class by a subclass of ``behaviour`` and this class; set attributes.

    The module stays the same object with the same parameters, hooks and state-dict names. Inside
    ``behaviour``, ``super().forward`` is the forward method that the module had before. torch's
    ``parametrize`` and ``fully_shard`` use the same mechanism.

    Args:
        module: the module to extend.
        behaviour: class whose ``forward`` replaces or wraps the forward method of the module.
        inside: insert the behaviour below earlier extensions. A behaviour that replaces the forward
            method needs this: earlier wrappers, such as checkpointing, then wrap the replacement.
        attributes: names and values to set on the module.

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
    """Return the class that a module had before it was extended."""
    made = type(module)
    while EXTENDED in vars(made):
        made = made.__bases__[1]
    return made


def require_unextended(model: nn.Module, method: str) -> None:
    """Check that no method has extended a module of the model yet.

    Raises:
        Unsupported: a module is already extended. The extension would not act on the modules that
            ``method`` adds.
    """
    for name, module in model.named_modules():
        if type(module).__module__ == __name__:
            raise Unsupported(
                f"{name} is already a {type(module).__name__}: an earlier method changed it, and "
                f"would not act on the modules that {method} adds. Name {method} first"
            )
