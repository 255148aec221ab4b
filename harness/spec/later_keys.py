"""The identity of a part of a spec, which keys added later do not change."""

import functools
from typing import Any

from bsrbench.harness.spec.frozen_data import Frozen, canonical_json

# Keys added later, with their defaults. A trial's id does not include a key at this value, so that
# the ids of older trials do not change.
LATER_KEYS: dict[str, dict[str, Any]] = {
    "workload": {
        "compiled_step": False,
        "optimizer_in_backward": False,
        "layer_decay": 1.0,
        "head_rate_factor": 1.0,
        "decay_vectors": True,
        "multitask": None,
        "optimizer_options": None,
    },
    "training": {
        "final_learning_rate": 0.0,
        "label_smoothing": 0.0,
        "augmentation": "none",
        "crop_scale": [0.08, 1.0],
        "evaluation_crop": "resize",
        "interpolation": "bicubic",
        "head": "drawn",
        "evaluate_every": None,
    },
    "profile": {"only_predict": False, "generations": 5, "trains_as": None},
}


@functools.lru_cache(maxsize=4096)  # thousands of records have few different parts
def identity_of(part: Frozen | None, name: str) -> str:
    """Return the canonical JSON of a part of a spec; the trial's id is a hash of all parts.

    Args:
        part: the part; ``None`` if the spec has none.
        name: the part's name; its ``LATER_KEYS`` are left out if they have their defaults.
    """
    if part is None:
        return canonical_json(None)
    usual = LATER_KEYS[name]
    data = part.model_dump(mode="json")
    return canonical_json(
        {key: value for key, value in data.items() if key not in usual or value != usual[key]}
    )
