"""Parse TOML that a person has written."""

import tomllib
from typing import Any

DEEPEST = 50  # levels of nesting; pydantic and json fail at a larger depth, with other errors
LONGEST_NUMBER = 4300  # Python's limit of digits in an integer
MOST_DOTS = 300  # in one line; tomllib takes seconds for a key of thousands of parts


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of TOML text.

    Raises:
        ValueError: it is not TOML, or exceeds a limit; the message is one clause.
    """
    too_deep = f"tables and lists are nested more than {DEEPEST} levels deep"
    if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
        raise ValueError(f"a line has more than {MOST_DOTS} dots: use shorter keys and lines")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it contains an unpaired surrogate, which is not valid text") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from error
    except ValueError as error:  # from int(), for a number with too many digits
        raise ValueError(f"a number has more than {LONGEST_NUMBER} digits") from error
    except RecursionError as error:
        raise ValueError(too_deep) from error
    if is_deep(data):
        raise ValueError(too_deep)
    return data


def is_deep(data: dict[str, Any]) -> bool:
    """Return whether tables and lists are nested more than ``DEEPEST`` levels deep."""
    level: list[Any] = [data]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
    return bool(level)


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
