"""Colours and marks of methods, the same in all figures and on the page."""

import zlib

# Colours of Okabe and Ito, and similar colours. Their medium lightness is visible on a white and on
# a dark page. Methods with similar colours have different marks.
COLOUR_OF = {
    "full": "#6b6b6b",
    "head": "#8c6bb1",
    "bias": "#3e9bd3",
    "norm": "#17a2b8",
    "lora": "#0072b2",
    "dora": "#3f6fd8",
    "int8": "#009e73",
    "int4": "#4daf4a",
    "sparse": "#cc79a7",
    "checkpoint": "#c98a00",
    "evit": "#a6761d",
    "bsr": "#d55e00",
    "bsr+int8": "#c23b22",
    "bsr+int4": "#f2805a",
    "bsr+sparse": "#e7298a",
    "bsr+checkpoint": "#b5651d",
    "bsr+lora": "#e8543f",
    "tome": "#7d8c00",
    "adapter": "#7a4fd0",
    "prompt": "#795548",
    "ladder": "#00838f",
    "repnet": "#c2185b",
    "int2": "#2e8b57",
    "regelu2": "#5f7fae",
    "offload": "#8a6f5a",
    "int8w": "#3d8f8f",
    "nf4": "#8f8f3d",
    "peft": "#4f6fa8",
    "badam": "#b0413e",
    "lisa": "#d98880",
    "mezo": "#5d6d7e",
    "mslnorm": "#6c8ebf",
    "dtl": "#b7791f",
    "vqt": "#9a5fb4",
    "sparse_tuning": "#a3423f",
    "dyt": "#6b8e23",
    "asi": "#1f9e9e",
    "wasi": "#6f7fd0",
}
# Paul Tol's muted colours, for all other methods.
OTHER_COLOURS = (
    *("#4b3fa8", "#44aa99", "#117733", "#999933", "#b59f3b"),
    *("#cc6677", "#a83262", "#aa4499", "#5b8db8"),
)
MARKS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "h", "p", "d")
BASELINE_MARK = "*"

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#999999", "#000000")
EDGE_COLOUR = "#444444"
CATEGORY_COLOURS = {
    "weights": "#999999",
    "buffers": "#f0e442",
    "optimizer": "#cc79a7",
    "inputs": "#000000",
    "kept": "#d55e00",
    "gradients": "#e69f00",
    "saved_activations": "#0072b2",
    "temporaries": "#56b4e9",
}


def colour_of(method: str) -> str:
    """Return the colour of a method's rows as ``#rrggbb``, whatever their options and axes."""
    return COLOUR_OF.get(method) or OTHER_COLOURS[_number(method) % len(OTHER_COLOURS)]


def mark_of(method: str) -> str:
    """Return the mark of a method's rows in matplotlib's notation."""
    if method == "bsr":
        return BASELINE_MARK
    known = list(COLOUR_OF)
    number = known.index(method) if method in known else _number(method)
    return MARKS[number % len(MARKS)]


def _number(text: str) -> int:
    """Return a hash of a text that is the same on every machine, unlike ``hash``."""
    return zlib.crc32(text.encode())
