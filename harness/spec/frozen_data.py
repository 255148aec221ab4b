"""Data that validates once and never changes, and its hash."""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bsrbench.harness.plain_data import LARGEST
from bsrbench.harness.visible_text import acting

MOST = 2**31 - 1  # of what is counted: images, steps, pixels, threads
Count = Annotated[int, Field(ge=1, le=MOST)]
Several = Annotated[int, Field(ge=2, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
Place = Annotated[int, Field(ge=0, le=MOST)]  # counted from 0
# A record holds no larger number (bsrbench.harness.plain_data), so none may be asked for.
Rate = Annotated[float, Field(gt=0, lt=LARGEST)]
NotNegative = Annotated[float, Field(ge=0, lt=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Named = TypeVar("Named", int, float, str)
LISTED = 5
PositiveShare = Annotated[float, Field(gt=0, le=1)]


MOST_SEEDS = 10_000


def named_twice(values: Sequence[Named]) -> list[Named]:
    """Return the values that stand more than once among some, in their order."""
    counts = Counter(values)
    return [value for value, count in counts.items() if count > 1]


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Refuse a seed that is there twice: it is one training, and no second observation."""
    if twice := sorted(named_twice(seeds)):
        listed = ", ".join(map(str, twice[:LISTED])) + (", ..." if len(twice) > LISTED else "")
        raise ValueError(f"names {listed} twice: expected each seed once")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=LARGEST)]  # torch's generators take no more
Seeds = Annotated[
    tuple[Seed, ...],
    Field(strict=False, min_length=1, max_length=MOST_SEEDS),
    AfterValidator(_each_once),
]


def _shows(text: str) -> str:
    """Refuse text that would act on whatever it is shown in."""
    if code := acting(text, also="\t\n"):
        raise ValueError(f"has the character {code}, expected text without control characters")
    return text


Name = Annotated[str, AfterValidator(_shows)]


class Frozen(BaseModel):
    """Data that validates once and never changes; an unknown key is an error.

    Numbers are finite: JSON has no infinity, so a setting that is one would be stored as null.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FromFile(Frozen):
    """Data in a file that a program has written and anybody may have changed: nobody sets them."""


Made = TypeVar("Made", bound=Frozen)


@functools.lru_cache(maxsize=64)
def _fields_of(kind: type[Frozen]) -> set[str]:
    return set(kind.model_fields)


def made_of(kind: type[Made], fields: dict[str, Any]) -> Made:
    """Return a model of fields that were validated before; five times as fast as pydantic's own.

    Args:
        kind: of model.
        fields: all of them, each in its final form.
    """
    made: Made = object.__new__(kind)
    put = object.__setattr__
    put(made, "__dict__", fields)
    put(made, "__pydantic_fields_set__", _fields_of(kind))
    put(made, "__pydantic_extra__", None)
    put(made, "__pydantic_private__", None)
    return made


@functools.lru_cache(maxsize=4096)  # a report asks for thousands of records, of few workloads
def digest_without(model: Frozen, keys: tuple[str, ...]) -> str:
    """Return the ``digest`` of a model's fields but for some."""
    return digest(model.model_dump(mode="json", exclude=set(keys)))


def digest(data: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of ``data`` as canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:16]


def canonical_json(data: object) -> str:
    """Return data as JSON that is the same for equal data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
