"""The names of the optimizers, and the options of each with their defaults."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, get_args

Optimizer = Literal[
    "sgd",
    "adamw",
    "adamw8",
    "adamw4",
    "adafactor",
    "lion",
    "galore",
    "apollo",
    "apollo-mini",
]
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
Option = float | int | None

_ADAM: dict[str, Option] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
_PROJECTED: dict[str, Option] = _ADAM | {"rank": None, "refresh_steps": 200}
DEFAULTS: dict[str, dict[str, Option]] = {
    "sgd": {},
    "adamw": _ADAM,
    "adamw8": _ADAM | {"block_size": 256},
    "adamw4": _ADAM | {"block_size": 128},
    "adafactor": {"beta2_decay": -0.8, "clip_threshold": 1.0, "least_scale": 1e-3},
    "lion": {"beta1": 0.9, "beta2": 0.99},
    "galore": _PROJECTED | {"scale": 0.25},
    "apollo": _PROJECTED | {"scale": 1.0, "norm_growth": 1.01},
    "apollo-mini": _ADAM | {"refresh_steps": 200, "scale": 128.0, "norm_growth": 1.01},
}
MOMENTUM = "momentum"  # a key of the workload; in words it stands like an option of sgd
USUAL_MOMENTUM = 0.9


def optimizer_in_words(
    optimizer: str, options: Mapping[str, float | int], momentum: float = USUAL_MOMENTUM
) -> str:
    """Return an optimizer and what is not its default, for example ``galore rank=64``.

    Args:
        optimizer: its name.
        options: its stated options.
        momentum: the momentum; only sgd has one.
    """
    stated = {name: options[name] for name in DEFAULTS[optimizer] if name in options}
    if optimizer == "sgd" and momentum != USUAL_MOMENTUM:
        stated[MOMENTUM] = momentum
    return " ".join([optimizer, *(f"{name}={_number(value)}" for name, value in stated.items())])


def optimizer_of_words(words: str) -> dict[str, Any] | None:
    """Return the keys of the workload that words mean; ``None`` if they are not an optimizer."""
    optimizer, *items = words.split(" ")
    options: dict[str, Any] = {}
    known = {MOMENTUM} if optimizer == "sgd" else set(DEFAULTS.get(optimizer, ()))
    for name, _, text in (item.partition("=") for item in items):
        with suppress(ValueError):
            options[name] = json.loads(text)
        if name not in known or type(options.get(name)) not in {int, float}:
            return None
    momentum = options.pop(MOMENTUM, USUAL_MOMENTUM)
    if optimizer not in DEFAULTS:
        return None
    return {
        "optimizer": optimizer,
        "optimizer_options": options or None,
        MOMENTUM: float(momentum),
    }


def _number(value: float) -> str:
    """Return a number with as few digits as identify it."""
    short = f"{value:g}"
    if isinstance(value, int):  # type checkers take it for a float
        return str(value)
    return short if float(short) == value else repr(value)
