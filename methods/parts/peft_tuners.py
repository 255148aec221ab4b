"""Tuners of the installed peft library: their names, their settings, and how a model gets one."""

import dataclasses
import json
import typing
import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from torch import nn

from bsrbench.harness.errors import unknown
from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import ExpertMlp
from bsrbench.harness.model.vit import blocks

EXTRA = "pip install --upgrade 'bsrbench[lora]'"
ADAPTER = "default"  # peft's name of an adapter in a model that has one
# Settings that name layers, which ``targets`` does, or that a model without peft's wrapper lacks.
OURS = frozenset(
    {
        *("peft_type", "task_type", "inference_mode", "auto_mapping", "base_model_name_or_path"),
        *("revision", "peft_version", "target_modules", "exclude_modules", "modules_to_save"),
        *("layers_to_transform", "layers_pattern", "target_parameters", "layer_replication"),
        *("trainable_token_indices", "feedforward_modules"),
    }
)
OF_NORMS = {"ln_tuning"}  # tuners that train norms instead of Linear layers
LINEAR, NORMS = ("qkv",), ("norm1", "norm2")
# Tuners that peft puts into the model, but whose forward pass then fails.
UNFIT = {
    "poly": "its router needs the number of a task in each forward pass",
    "trainable_tokens": "it trains rows of an embedding, which vision transformers lack",
}
# Facts of a method that differ from those of most tuners, with default settings. OSF projects its
# gradients. The other errors come from layers that compute in single precision, whatever the model.
FACTS: dict[str, dict[str, Any]] = {
    "c3a": {"exact_forward": False, "gradient_error": 0.0008},
    "deft": {"gradient_error": 0.0005},
    "delora": {"gradient_error": 0.002},
    "fourierft": {"exact_forward": False, "gradient_error": 0.015},
    "osf": {"gradient_error": 0.06},
    "pvera": {"saves_over_full": False},
    "vera": {"saves_over_full": False},
}
# Settings with which training cannot be resumed from a checkpoint, because peft keeps the state in
# plain attributes.
NOT_STORED = {"use_asa": "the importance of subspaces is in no checkpoint"}


def tuner_classes() -> dict[str, Any]:
    """Return the tuners of the installed peft that put layers into a model, by name.

    Raises:
        ImportError: peft cannot be loaded.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING  # noqa: PLC0415 - an extra, slow
    from peft.tuners.tuners_utils import BaseTuner  # noqa: PLC0415

    listed: dict[Any, Any] = dict(PEFT_TYPE_TO_TUNER_MAPPING)
    return {
        kind.value.lower(): tuner
        for kind, tuner in listed.items()
        if isinstance(tuner, type) and issubclass(tuner, BaseTuner)
    }


def usual_targets(tuner: str) -> tuple[str, ...]:
    """Return the layers that a tuner adapts in every block if none are named."""
    return NORMS if tuner in OF_NORMS else LINEAR


def configuration(tuner: str, targets: tuple[str, ...], settings: Mapping[str, Any]) -> Any:
    """Return peft's configuration of a tuner for layers of all blocks.

    Args:
        tuner: its name, as peft has it, in lower case.
        targets: names of the layers to adapt in each block.
        settings: settings of peft's configuration class.

    Raises:
        BadInput: the installed peft does not have the tuner or a setting.
        ValueError: a setting is not the user's to set, or peft refuses a value.
        ImportError: peft cannot be loaded.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING  # noqa: PLC0415 - an extra, slow

    known = tuner_classes()
    if tuner not in known:
        raise unknown("tuner of the installed peft", tuner, known)
    by_name = {kind.value.lower(): made for kind, made in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    made: Any = by_name[tuner]
    _check_names(made, settings)
    _check_types(made, settings)
    own = {"feedforward_modules": [t for t in targets if t == "fc2"]} if tuner == "ia3" else {}
    pattern = rf"(.*\.)?blocks\.\d+\.(.*\.)?({'|'.join(targets)})"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return made(target_modules=pattern, **own, **settings)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise ValueError(f"peft's {made.__name__} refuses its settings: {error}") from error


def _check_names(made: type, settings: Mapping[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(made) if field.init]
    for name, value in settings.items():
        if name in OURS & set(known):
            raise ValueError(
                f"settings.{name} cannot be set: 'targets' says which layers are adapted, and the "
                "rest of the model is the harness's"
            )
        if name not in known:
            raise unknown(f"setting of peft's {made.__name__}", name, set(known) - OURS)
        if name in NOT_STORED and value:
            raise ValueError(f"settings.{name} is not supported: {NOT_STORED[name]}")


def _check_types(made: type, settings: Mapping[str, Any]) -> None:
    """Check the types of settings. peft does not check them itself.

    Raises:
        ValueError: a value has another type than peft declares.
    """
    try:
        declared = typing.get_type_hints(made)
    except (NameError, TypeError):  # it names types that it imports for type checkers only
        return
    for name, value in settings.items():
        try:
            TypeAdapter(declared[name]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            fault = error.errors()[0]["msg"].removeprefix("Input ")
            raise ValueError(f"settings.{name} = {value!r}: {fault}") from error
        except PydanticUserError:  # a type of peft's own
            continue


def put_in(model: nn.Module, tuner: str, targets: tuple[str, ...], settings: dict[str, Any]) -> Any:
    """Put a tuner's layers into all blocks and freeze every other parameter; return peft's tuner.

    Args:
        model: a plain vision transformer.
        tuner: name of the tuner.
        targets: names of the layers to adapt in each block.
        settings: settings of peft's configuration class.

    Raises:
        Unsupported: peft cannot be loaded, a block does not have a target, or the tuner cannot be
            applied to it.
    """
    if tuner in UNFIT:
        raise Unsupported(f"{tuner} cannot be used: {UNFIT[tuner]}")
    _require_targets(model, targets)
    try:
        config = configuration(tuner, targets, settings)
    except ImportError as error:
        raise Unsupported(f"peft cannot be loaded ({error}): {EXTRA}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = tuner_classes()[tuner](model, config, ADAPTER)
    except Exception as error:
        raise Unsupported(
            f"peft cannot apply {tuner} to {', '.join(targets)} of this model: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise Unsupported(f"peft's {tuner} leaves nothing to train in {', '.join(targets)}")
    return made


def _require_targets(model: nn.Module, targets: tuple[str, ...]) -> None:
    """Check that every block has every target. peft ignores a missing one without an error.

    Raises:
        Unsupported: a block does not, or has experts instead.
    """
    for index, block in enumerate(blocks(model)):
        inside = {name.rpartition(".")[2] for name, _ in block.named_modules() if name}
        if missing := [target for target in targets if target not in inside]:
            raise Unsupported(
                f"targets names {', '.join(missing)}, but block {index} has no layer of this name; "
                f"it has {', '.join(sorted(inside))}"
            )
        mlp = getattr(block, "mlp", None)
        if isinstance(mlp, ExpertMlp) and (own := sorted({"fc1", "fc2"} & set(targets))):
            raise Unsupported(f"{' and '.join(own)} of block {index} are layers of experts")
