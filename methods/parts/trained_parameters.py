"""Choose which parameters train."""

from collections.abc import Iterable

from torch import nn

from bsrbench.harness.method import Unsupported


def require_all_train(model: nn.Module) -> None:
    """Check that nothing is frozen yet, as a method that selects weights must find the model.

    Raises:
        Unsupported: another method, or the same one before, has frozen something.
    """
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise Unsupported(
            f"the model is already prepared: {len(frozen)} of its parameters are frozen, "
            f"{frozen[0]} is the first"
        )


def train_only(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Freeze everything but the parameters of ``modules``.

    Raises:
        Unsupported: something is frozen already.
    """
    require_all_train(model)
    model.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
