"""Parse TOML that a person has written."""

import tomllib
from typing import Any

DEEPEST = 50  # levels; pydantic and json give up a little later, with errors of their own
LONGEST_NUMBER = 4300  # digits that Python reads
MOST_DOTS = 300  # in a line; tomllib takes seconds for a key of thousands of parts


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of TOML text.

    Raises:
        ValueError: it is no TOML, or nobody means it; the message is one clause.
    """
    too_deep = f"tables and lists are nested more than {DEEPEST} levels deep"
    if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
        raise ValueError(f"a line has more than {MOST_DOTS} dots, which no key and no list needs")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a character of it is half of a pair, which no text has") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from error
    except ValueError as error:  # the one other that int() raises
        raise ValueError(f"a number has more than {LONGEST_NUMBER} digits") from error
    except RecursionError as error:
        raise ValueError(too_deep) from error
    if is_deep(data):
        raise ValueError(too_deep)
    return data


def is_deep(data: dict[str, Any]) -> bool:
    """Return whether tables and lists are nested deeper than anybody means them."""
    level: list[Any] = [data]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
    return bool(level)


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
