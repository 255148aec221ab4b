"""Cut the JSON text of a record at its keys, and doubt whatever is not plainly as it should be."""

import functools
import re
from collections.abc import Sequence
from typing import Any

import orjson

from bsrbench.harness.records.record_validation import plainly_text
from bsrbench.harness.spec.frozen_data import Frozen, Made

SIMPLE = re.compile(rb'"[ !#-\[\]-~]*"')  # a string in which nothing is escaped


class DoubtError(ValueError):
    """Something is not plainly as it should be."""


def keys_before(kind: type[Frozen], depth: int) -> tuple[bytes, ...]:
    """Return what stands before each value of a model, as the store writes it."""
    start = "\n" + " " * depth
    before = (f'{start}"{name}": ' for name in kind.model_fields)
    return tuple(f"{',' if place else '{'}{key}".encode() for place, key in enumerate(before))


def cut(text: bytes, keys: Sequence[bytes], end: bytes) -> list[bytes]:
    """Return the text of each value of an object.

    Whatever stands between the keys: if each part is a JSON value by itself, and whoever parses it
    finds that out, the text is an object of these keys and values.

    Raises:
        DoubtError: the text has not these keys in this order.
    """
    first, *others = keys
    if not (text.startswith(first) and text.endswith(end)):
        raise DoubtError
    parts, start = [], len(first)
    for key in others:
        found = text.find(key, start)
        if found < 0:
            raise DoubtError
        parts.append(text[start:found])
        start = found + len(key)
    parts.append(text[start : len(text) - len(end)])
    return parts


def simple_string(text: bytes) -> str:
    """Return a JSON string in which nothing is escaped.

    Raises:
        DoubtError: it is something else.
    """
    if not SIMPLE.fullmatch(text):
        raise DoubtError
    return text[1:-1].decode()


def visible_value(text: bytes) -> Any:
    """Return a JSON value whose text has no character that acts where it is shown.

    Raises:
        DoubtError: it may have one.
    """
    if not plainly_text(text):
        raise DoubtError
    return orjson.loads(text)


@functools.lru_cache(maxsize=8192)
def validated_model(kind: type[Made], text: bytes) -> Made:
    """Return a model from its JSON; the same object for the same text.

    Raises:
        DoubtError: the text may have a character that acts where it is shown.
        ValidationError: it is not valid.
    """
    if not plainly_text(text):
        raise DoubtError
    return kind.model_validate_json(text)
