"""Read the measurements of a record from their text, and check that each is one a metric may have.

Records of one kind have values of the same metrics: what is to be checked is sorted out once.
"""

import functools
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from bsrbench.harness.records.metric_bounds import CURVE, MOST, bounds_of
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.text_cutting import DoubtError

NAMES = frozenset(METRICS)
NUMBERS = (int, float)
OF_ONE_KIND: tuple[set[type], ...] = ({float}, {int})  # others become all floats: not here
UNSIGNED = (0, MOST)
Bounded = tuple[str, float, float]  # a metric, its least value, its largest
NOTHING = type(None)


def measurements_of(text: bytes, missing: frozenset[str]) -> dict[str, Any]:
    """Return the value of each metric.

    Args:
        text: JSON.
        missing: the metrics of which the record says why they have no value.

    Raises:
        DoubtError: a value is not plainly one that its metric may have, or is missing unexplained.
    """
    measured = orjson.loads(text)
    if type(measured) is not dict:
        raise DoubtError
    shape = _shape(tuple(measured), tuple(map(type, measured.values())), missing)
    numbers = shape.unsigned(measured)
    # Where no sign stands nothing is negative, and no number larger than the sum.
    signs = b"-" in text
    if sum(numbers) > MOST or (signs and min(numbers) < 0):
        raise DoubtError
    for name, low, high in shape.special:
        if not low <= measured[name] <= high:
            raise DoubtError
    for name, high in shape.sampled:
        _require_samples(measured[name], high, signs=signs)
    if shape.curve and len(set(map(len, map(measured.__getitem__, CURVE)))) > 1:
        raise DoubtError
    return measured


def _require_samples(values: list[Any], high: float, *, signs: bool) -> None:
    """Check that samples are numbers of one kind, none negative, none above the largest."""
    if set(map(type, values)) not in OF_ONE_KIND or (signs and min(values) < 0):
        raise DoubtError
    if sum(values) > high and max(values) > high:
        raise DoubtError


class _Shape(NamedTuple):
    """Which metrics of a record have a value, by what the value may be."""

    unsigned: Callable[[dict[str, Any]], Sequence[float]]  # gives the values of all of them
    special: tuple[Bounded, ...]
    sampled: tuple[tuple[str, float], ...]  # and the largest value
    curve: bool


@functools.lru_cache(maxsize=8192)
def _shape(names: tuple[str, ...], kinds: tuple[type, ...], missing: frozenset[str]) -> _Shape:
    """Sort the metrics that have a value; see that of all others it is said why they have none."""
    kind_of = dict(zip(names, kinds, strict=True))
    absent = {name for name in NAMES if kind_of.get(name, NOTHING) is NOTHING}
    if not (
        kind_of.keys() <= NAMES and set(kinds) <= {*NUMBERS, list, NOTHING} and absent <= missing
    ):
        raise DoubtError
    filled = [name for name, kind in kind_of.items() if kind is not NOTHING]
    if any(METRICS[name].samples != (kind_of[name] is list) for name in filled):
        raise DoubtError
    read = len(set(CURVE) & set(filled))
    if read not in {0, len(CURVE)}:
        raise DoubtError
    bounded = [(name, *bounds_of(name)) for name in filled]
    sampled = tuple((name, high) for name, _, high in bounded if kind_of[name] is list)
    single = [each for each in bounded if kind_of[each[0]] is not list]
    special = tuple(each for each in single if each[1:] != UNSIGNED)
    unsigned = [name for name, *bounds in single if tuple(bounds) == UNSIGNED]
    # Of two or more names it gives a tuple.
    numbers = itemgetter(*unsigned) if len(unsigned) > 1 else _none
    return _Shape(numbers, special, sampled, read > 0)


def _none(measured: dict[str, Any]) -> Sequence[float]:  # noqa: ARG001 - as itemgetter's
    """Leave to validation what has hardly a number."""
    raise DoubtError
