"""The report as one self-contained HTML file; its script draws the page from embedded data."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bsrbench.harness.files import write_whole
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.page.page_data import page_text

FOLDER = Path(__file__).absolute().parents[1] / "page"
# The scripts are joined in this order to one script.
SCRIPTS = (
    *("data.js", "elements.js", "numbers.js", "ratios.js", "tooltip.js", "rows.js", "cells.js"),
    *("chart.js", "scatter.js", "bars.js", "timeline.js", "curves.js", "blocks.js"),
    *("details.js", "table.js", "controls.js", "figures.js", "page.js"),
)


def write(comparisons: list[Comparison], title: str, path: Path) -> None:
    """Write the file; it contains everything that it shows."""
    style, script = _read("page.css"), _script()
    templates = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined
    )
    text = templates.get_template("page.html.j2").render(
        title=title,
        style=style,
        script=script,
        data=page_text(comparisons, title),
        policy=_policy(style, script),
    )
    write_whole(path, text)


def _script() -> str:
    """Return all scripts in one function, so that they define no global names."""
    return '(() => {\n"use strict";\n' + "\n".join(map(_read, SCRIPTS)) + "})();\n"


def _policy(style: str, script: str) -> str:
    """Return a policy that loads nothing and runs only the script and style of the page."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
