"""Read settings and sizes that the user types: ``key=value``, ``512MiB``, ``30min``."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import click

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.memory_size import SHOWN, bytes_of_size
from bsrbench.harness.spec.toml_text import parse_toml

MOST = 1e15  # seconds; a larger number is a typing error, and the system rejects it
SIZE = re.compile(r"[0-9]*\.?[0-9]+ ?[KMG]i?B")  # never a TOML value
TIMES = {"s": 1, "min": 60, "h": 3600}


def setting(text: str) -> tuple[str, Any]:
    """Return the key and the TOML value of ``key=value``; a size like 1GiB needs no quotes."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise BadInput(f"expected key=value, got {text!r}")
    if SIZE.fullmatch(value.strip()):
        return key.strip(), value.strip()
    try:
        return key.strip(), parse_toml(f"value = {value}")["value"]
    except ValueError as error:
        raise BadInput(
            f"{_short(text)}: {_short(value)} is not a TOML value (put text in quotes and lists "
            "in [])"
        ) from error


def _short(text: str) -> str:
    """Return text in quotes; a very long text is truncated."""
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}..."


def overrides(settings: Iterable[str], by_option: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return dotted keys and their values, each set once.

    Args:
        settings: the ``key=value`` texts of ``--set``.
        by_option: option name -> the dotted key that the option sets, and its value; ``None`` if
            the option was not given.

    Raises:
        BadInput: a key is set twice, or a text is not ``key=value``.
    """
    table: dict[str, Any] = {}
    where: dict[str, str] = {}
    named = [(option, *pair) for option, pair in by_option.items() if pair[1] is not None]
    for option, key, value in [*named, *(("--set", *setting(text)) for text in settings)]:
        if key in table:
            raise BadInput(
                f"{key} is set twice, by {where[key]} and by {option} {key}: leave out one of them"
            )
        table[key], where[key] = value, f"{option} {key}" if option == "--set" else option
    return table


def nested(options: tuple[str, ...], flag: str = "--option") -> dict[str, Any]:
    """Return options as a table; ``int8.bits=8`` is the option ``bits`` of the part ``int8``.

    Tables can be inside tables: ``peft.settings.r=8``.

    Args:
        options: texts ``key=value``.
        flag: the option of the command line that has them, for messages.

    Raises:
        BadInput: an option is set twice, or is both a value and a table.
    """
    table: dict[str, Any] = {}
    for text in options:
        key, value = setting(text)
        *parts, name = key.split(".")
        place: Any = table
        for part in parts:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise BadInput(
                    f"{flag} {key}: {part} is already set to {place!r}, which is not a table: "
                    "leave out one of the two"
                )
        if name in place:
            raise BadInput(f"{flag} {key} is set twice: leave out one of them")
        place[name] = value
    return table


def size_in_bytes(option: str, text: str) -> int:
    """Return the bytes of ``512MiB``, ``2GiB`` and the like.

    Raises:
        BadInput: the text is not a size; the message names ``option``.
    """
    try:
        return bytes_of_size(text)
    except ValueError as error:
        raise BadInput(f"{option} {error}") from error


def seconds_of(option: str, text: str) -> float:
    """Return the seconds of ``90s``, ``30min``, ``2h`` and the like.

    Raises:
        BadInput: the text is not a time; the message names ``option``.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]+)", text.strip())
    seconds = float(match[1]) * TIMES.get(match[2], 0) if match else 0.0
    if not 0 < seconds < MOST:
        raise BadInput(f"{option} {_short(text)}: expected a time like 90s, 30min or 2h")
    return seconds


class Seconds(click.FloatRange):
    """A finite number of seconds on the command line.

    ``FloatRange`` alone would accept ``nan``, because every comparison with it is false.
    """

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number.

        Raises:
            click.BadParameter: it is not a number, is out of range, or is larger than ``MOST``.
        """
        seconds = float(super().convert(value, param, ctx))
        if not seconds < MOST:
            self.fail(f"{value!r}: expected a finite number of seconds", param, ctx)
        return seconds
