"""Immutable, validated data models, and their hash."""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bsrbench.harness.plain_data import LARGEST
from bsrbench.harness.visible_text import acting

MOST = 2**31 - 1  # largest count of images, steps, pixels or threads
Count = Annotated[int, Field(ge=1, le=MOST)]
Several = Annotated[int, Field(ge=2, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
Place = Annotated[int, Field(ge=0, le=MOST)]  # counted from 0
# A record cannot contain a larger number (bsrbench.harness.plain_data), so a spec cannot either.
Rate = Annotated[float, Field(gt=0, lt=LARGEST)]
NotNegative = Annotated[float, Field(ge=0, lt=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Named = TypeVar("Named", int, float, str)
LISTED = 5
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
PositiveShare = Annotated[float, Field(gt=0, le=1)]


MOST_SEEDS = 10_000


def named_twice(values: Sequence[Named]) -> list[Named]:
    """Return the values that occur more than once, in their order."""
    counts = Counter(values)
    return [value for value, count in counts.items() if count > 1]


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Refuse a repeated seed: it would be the same training, not a second observation."""
    if twice := sorted(named_twice(seeds)):
        listed = ", ".join(map(str, twice[:LISTED])) + (", ..." if len(twice) > LISTED else "")
        raise ValueError(f"names {listed} twice: expected each seed once")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=LARGEST)]  # limit of torch's generators
Seeds = Annotated[
    tuple[Seed, ...],
    Field(strict=False, min_length=1, max_length=MOST_SEEDS),
    AfterValidator(_each_once),
]


def _shows(text: str) -> str:
    """Refuse text with control characters."""
    if code := acting(text, also="\t\n"):
        raise ValueError(f"contains the character {code}, expected text without control characters")
    return text


Name = Annotated[str, AfterValidator(_shows)]


class Frozen(BaseModel):
    """Immutable data, validated on construction; an unknown key is an error.

    Numbers are finite, because JSON has no infinity and would store it as null.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FromFile(Frozen):
    """Data from a file that a program writes, and that anybody may have changed since."""


@functools.lru_cache(maxsize=4096)  # a report calls it for thousands of records with few workloads
def digest_without(model: Frozen, keys: tuple[str, ...]) -> str:
    """Return the ``digest`` of a model without some of its fields."""
    return digest(model.model_dump(mode="json", exclude=set(keys)))


def digest(data: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of ``data`` as canonical JSON."""
    return digest_of_text(canonical_json(data))


def digest_of_text(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canonical_json(data: object) -> str:
    """Return data as JSON text that is identical for equal data."""
    return CANONICAL.encode(data)
