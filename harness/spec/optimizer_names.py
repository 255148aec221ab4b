"""The names of the optimizers, and the options of each with their defaults."""

from typing import Literal, get_args

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
