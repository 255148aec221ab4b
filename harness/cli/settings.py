"""Settings a person types as ``key=value``."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import click

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.toml_text import parse_toml

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 1e3, "MB": 1e6, "GB": 1e9}
MOST = 1e15  # bytes or seconds: a petabyte; more was not meant, and the system takes no more
SHOWN = 80  # letters of what a person typed, in a message
TIMES = {"s": 1, "min": 60, "h": 3600}


def setting(text: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``, the value in TOML."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise BadInput(f"expected key=value, got {text!r}")
    try:
        return key.strip(), parse_toml(f"value = {value}")["value"]
    except ValueError as error:
        raise BadInput(
            f"{_short(text)}: {_short(value)} is not a TOML value (text stands in quotes, lists "
            "in [])"
        ) from error


def _short(text: str) -> str:
    """Return text in quotes, the end of a very long one left out."""
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}..."


def overrides(settings: Iterable[str], said: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return dotted keys and their values, each set once.

    Args:
        settings: what was said as ``--set key=value``.
        said: what other options set: by the option's name the dotted key and its value; a value of
            ``None`` was not said.

    Raises:
        BadInput: a key is set twice, or not as ``key=value``.
    """
    table: dict[str, Any] = {}
    where: dict[str, str] = {}
    spoken = [(option, *pair) for option, pair in said.items() if pair[1] is not None]
    for option, key, value in [*spoken, *(("--set", *setting(text)) for text in settings)]:
        if key in table:
            raise BadInput(
                f"{key} is set twice, by {where[key]} and by {option} {key}: leave out one of them"
            )
        table[key], where[key] = value, f"{option} {key}" if option == "--set" else option
    return table


def nested(options: tuple[str, ...]) -> dict[str, Any]:
    """Return options as a table; ``int8.bits=8`` belongs to the part ``int8``.

    Raises:
        BadInput: an option is set twice, or to a value and to a table.
    """
    table: dict[str, Any] = {}
    for text in options:
        key, value = setting(text)
        part, dot, name = key.partition(".")
        place = table.setdefault(part, {}) if dot else table
        if not isinstance(place, dict):
            raise BadInput(f"--option {key}: {part} was set to {place!r} before, and is no table")
        if (name if dot else key) in place:
            raise BadInput(f"--option {key} is set twice: leave out one of them")
        place[name if dot else key] = value
    return table


def size_in_bytes(option: str, text: str) -> int:
    """Return the bytes of ``512MiB``, ``2GiB`` and the like.

    Raises:
        BadInput: it is no size; ``option`` is named.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    size = float(found[1]) * UNITS.get(found[2].upper(), 0) if found else 0.0
    if not 0 < size < MOST:
        raise BadInput(f"{option} {_short(text)}: expected a size like 512MiB, 2GiB or 4GB")
    return int(size)


def seconds_of(option: str, text: str) -> float:
    """Return the seconds of ``90s``, ``30min``, ``2h`` and the like.

    Raises:
        BadInput: it is no time; ``option`` is named.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]+)", text.strip())
    seconds = float(found[1]) * TIMES.get(found[2], 0) if found else 0.0
    if not 0 < seconds < MOST:
        raise BadInput(f"{option} {_short(text)}: expected a time like 90s, 30min or 2h")
    return seconds


class Seconds(click.FloatRange):
    """A time on the command line, in seconds: a number, neither infinite nor none.

    Comparisons alone let ``nan`` pass any range.
    """

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number.

        Raises:
            click.BadParameter: it is none, out of range, or longer than ``MOST``.
        """
        seconds = float(super().convert(value, param, ctx))
        if not seconds < MOST:
            self.fail(f"{value!r}: expected a finite number of seconds", param, ctx)
        return seconds
