"""Errors whose messages are written for the user."""

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msgspec import MsgspecError
    from pydantic import ValidationError


SHOWN = 200  # characters of a text that a message repeats
CLAUSES = 20  # pydantic errors in one message


class BadInput(ValueError):  # noqa: N818 - it names what was wrong, for a person
    """Input that cannot be used; the message says what was got, what was expected, what to do."""


class Unreadable(Exception):  # noqa: N818 - becomes the reason of a missing value
    """A meter cannot read its quantity on this system; the message says why, and what to do."""


def shortened(text: str, most: int = SHOWN) -> str:
    """Return a text, truncated to ``most`` characters."""
    return text if len(text) <= most else f"{text[:most]}..."


def unknown(kind: str, name: str, choices: Iterable[str]) -> BadInput:
    """Return the error for a name that is not in ``choices``; it suggests the nearest one."""
    there = sorted(choices)
    name = shortened(name)  # comparing long texts takes minutes
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")  # noqa: PLR2004 - one line
    return BadInput(f"no {kind} {name!r}{hint} (there are: {listed or 'none'})")


def explain(error: "ValidationError", where: str, names: Iterable[str] = ()) -> BadInput:
    """Turn pydantic's errors into one message, with one clause per error.

    Args:
        error: what pydantic raised.
        where: the file or option that the data came from.
        names: the valid keys, from which the message suggests one for an unknown key.
    """
    items = error.errors()
    clauses = [_clause(item, names) for item in items[:CLAUSES]]
    if len(items) > CLAUSES:
        clauses.append(f"and {len(items) - CLAUSES} more errors")
    return BadInput(f"{where}: " + "; ".join(clauses))


def fault_and_place(error: "MsgspecError") -> str:
    """Return the place and the text of an msgspec error: ``flops.by_phase: Expected ...``."""
    fault, _, place = str(error).partition(" - at `$")
    inside = place.removesuffix("`").removeprefix(".")
    return f"{inside}: {fault}" if inside else fault


def _clause(item: object, names: Iterable[str]) -> str:
    fields = dict(item)  # type: ignore[call-overload]  # pydantic's TypedDict
    place = ".".join(shortened(str(part)) for part in fields["loc"])
    if fields["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        key, known = str(fields["loc"][-1]), set(names)
        if key in known:
            return f"{place} is in the wrong place: the key {key!r} belongs in another table"
        return str(unknown("key", key, known)) + f" at {place}"
    if fields["type"] == "missing":
        return f"{place} is missing"
    message = str(fields["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if not place:  # the error is about several keys together; the message names them
        return message
    got = "" if isinstance(fields["input"], dict) else f" = {_shown(fields['input'])}"
    return f"{place}{got}: {message}"


def _shown(value: object) -> str:
    """Return a value as Python prints it, truncated."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits, or nested without end
        return f"a {type(value).__name__} that is too long to print"
