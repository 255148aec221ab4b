"""Escape control characters in untrusted text, for terminals, tables and figures."""

import re
from typing import Any

# Control characters except tab and line feed; marks that change the writing direction; line
# separators; unpaired surrogates; and characters that XML cannot represent.
ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
# In JSON text: an escaped backslash, which is left as it is, or an escaped control character.
ESCAPED = re.compile(r"\\\\|\\u00([01][0-9a-f])|\\([bfr])")
SHORT = {"b": "08", "f": "0c", "r": "0d"}
ONE_BYTE = 0x100


def visible(text: str) -> str:
    r"""Return text in which every control character is written as its code: ``\x1b``."""
    return ACTING.sub(lambda found: _code(ord(found[0])), text)


def acting(text: str, also: str = "") -> str:
    """Return the code of the first control character, or character in ``also``; empty if none."""
    found = next((char for char in text if char in also or ACTING.match(char)), "")
    return _code(ord(found)) if found else ""


def _code(character: int) -> str:
    return f"\\x{character:02x}" if character < ONE_BYTE else f"\\u{character:04x}"


def visible_json(text: str) -> str:
    """Return JSON text, as orjson writes it, with the control characters in its strings escaped."""
    raw = ACTING.sub(lambda found: f"\\{_code(ord(found[0]))}", text)
    return ESCAPED.sub(_inert, raw)


def _inert(found: re.Match[str]) -> str:
    code = found[1] or SHORT.get(found[2] or "")
    return rf"\\x{code}" if code else found[0]


def visible_in(data: Any) -> Any:
    """Return JSON data with control characters escaped in every text and key."""
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {visible(str(key)): visible_in(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [visible_in(value) for value in data]
    return data


def acting_in(data: Any) -> str:
    """Return the code of the first control character in JSON data or its keys; empty if none."""
    if isinstance(data, str):
        return acting(data)
    if isinstance(data, dict):
        inner = [part for item in data.items() for part in item]
    else:
        inner = list(data) if isinstance(data, (list, tuple)) else []
    return next((code for part in inner if (code := acting_in(part))), "")
