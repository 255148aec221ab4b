"""The grammar of row labels: commas, brackets and quotes."""

import functools
import json
from typing import Any

from bsrbench.harness.errors import BadInput, shortened

CLOSING = {"(": ")", "[": "]", "{": "}"}
QUOTE, ESCAPE = '"', "\\"
# These have a meaning in a label, so a name that contains one is quoted.
MEANINGFUL = (QUOTE, " (", " [", "*", "…")

READABLE = json.JSONEncoder(ensure_ascii=False, default=str)  # loading rejects other values
ADVICE = "put a name that contains brackets or commas in double quotes, as in JSON"


def split_at_commas(text: str) -> list[str]:
    """Split a text at its commas, except those inside brackets or double quotes.

    Raises:
        BadInput: an opening bracket or quote is not closed, or a closing bracket is not opened.
    """
    parts, start, place = [], 0, 0
    while place < len(text):
        if text[place] == ",":
            parts.append(text[start:place].strip())
            start = place + 1
        place = end_of_token(text, place)
    return [*parts, text[start:].strip()]


def end_of_token(text: str, place: int) -> int:
    """Return where the character, the bracket or the quoted text that begins at ``place`` ends.

    Raises:
        BadInput: an opening bracket or quote is not closed, or a closing bracket is not opened.
    """
    expected: list[str] = []  # closing brackets, the innermost last
    begin = place
    while place < len(text):
        sign = text[place]
        place = _end_of_quote(text, place) if sign == QUOTE else place + 1
        if sign in CLOSING:
            expected.append(CLOSING[sign])
        elif sign in CLOSING.values() and (not expected or expected.pop() != sign):
            raise BadInput(f"{shortened(text)!r}: {sign!r} has no opening bracket; {ADVICE}")
        if not expected:
            return place
    raise BadInput(f"{shortened(text)!r}: {text[begin]!r} is not closed; {ADVICE}")


def _end_of_quote(text: str, place: int) -> int:
    inside = place + 1
    while inside < len(text):
        if text[inside] == QUOTE:
            return inside + 1
        inside += 2 if text[inside] == ESCAPE else 1
    raise BadInput(f"{shortened(text)!r}: a double quote is not closed; {ADVICE}")


@functools.lru_cache(maxsize=4096)  # a report prints thousands of labels of few methods
def in_label(name: str) -> str:
    """Return a name as labels contain it; it is quoted if it could be misread."""
    return name if _is_plain(name) else as_json(name)


def _is_plain(name: str) -> bool:
    if not name or not name.isprintable() or " ".join(name.split()) != name:
        return False
    if any(sign in name for sign in MEANINGFUL):
        return False
    try:
        return split_at_commas(name) == [name]
    except BadInput:
        return False


def as_json(value: Any) -> str:
    """Return a value as JSON on one line, without two spaces in a row.

    Documents show several spaces as one and do not show invisible characters. A label that is
    copied from a document must not change.
    """
    text = READABLE.encode(value)
    if not text.isprintable():
        text = json.dumps(value, default=str)
    while "  " in text:  # occurs only inside strings
        text = text.replace("  ", " \\u0020")
    return text


def leading_name(text: str) -> tuple[str, str]:
    """Return the name that a text begins with, quoted or not, and the rest.

    Raises:
        BadInput: it is quoted, but is not a JSON string.
    """
    if text.startswith(QUOTE):
        end = _end_of_quote(text, 0)
        return str(json_of(text[:end])), text[end:]
    places = [place for sign in (" (", " [") if (place := text.find(sign)) >= 0]
    end = min(places, default=len(text)) if text.endswith((")", "]")) else len(text)
    return text[:end], text[end:]


def json_of(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        BadInput: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        fault = shortened(str(error))
        raise BadInput(f"{shortened(text)!r} is not a JSON value ({fault})") from error
