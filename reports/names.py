"""Text from records where characters act or room is short."""

import math
import re
import unicodedata

IN_TABLE, IN_FIGURE = 36, 40  # characters
CUT = "…"
FORMULA = ("=", "+", "-", "@", "\t")  # begin what a spreadsheet would compute
# They turn the direction of all that follows on a line; other format characters join letters.
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def on_one_line(text: str) -> str:
    """Return text without line breaks, nor characters that move a cursor or turn a line around."""
    joined = TURNS.sub("", " ".join(text.split()))
    return "".join(char for char in joined if unicodedata.category(char) != "Cc")


def shortened(text: str, most: int) -> str:
    """Return text on one line, its middle cut out where it is longer than so many characters."""
    line = on_one_line(text)
    if len(line) <= most:
        return line
    behind = (most - len(CUT)) // 2
    return f"{line[: most - len(CUT) - behind]}{CUT}{line[-behind:]}"


def in_csv(value: object) -> object:
    """Return what stands in a cell; no spreadsheet may take a name for a formula or a new line."""
    if isinstance(value, str):
        text = value.replace("\r", "\\r")
        return f"'{text}" if text.startswith(FORMULA) else text
    return "" if isinstance(value, float) and math.isnan(value) else value


def in_figure(text: str) -> str:
    """Return text that matplotlib draws as it is: ``$`` would begin a formula, ``_`` hide a row."""
    line = shortened(text, IN_FIGURE).replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line
