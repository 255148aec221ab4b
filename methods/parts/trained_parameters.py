"""Choose which parameters train."""

from collections.abc import Iterable

from torch import nn

from bsrbench.harness.method import Unsupported


def require_all_train(model: nn.Module) -> None:
    """Check that no parameter is frozen. A method that selects weights needs such a model.

    Raises:
        Unsupported: a parameter is frozen, by another method or by an earlier call of the same one.
    """
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise Unsupported(
            f"the model is already prepared: {len(frozen)} of its parameters are frozen, "
            f"the first is {frozen[0]}"
        )


def train_only(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Freeze all parameters except those of ``modules``.

    Raises:
        Unsupported: a parameter is already frozen.
    """
    require_all_train(model)
    model.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
