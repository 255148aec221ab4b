"""Print for a person or a script: no character of what is said acts on the terminal."""

from typing import TYPE_CHECKING

import click

from bsrbench.harness.visible_text import visible

if TYPE_CHECKING:
    from rich.text import Text


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text, what acts in it as its code.

    Args:
        text: lines.
        err: to the error stream.
        nl: end it with a line feed.
    """
    click.echo(visible(text), err=err, nl=nl)


def cell(text: str) -> "Text":
    """Return a cell of a table on a terminal: what stands in brackets is no markup there."""
    from rich.text import Text

    return Text(visible(text))
