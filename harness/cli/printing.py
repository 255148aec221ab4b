"""Print text for a person or a script, with control characters escaped."""

from typing import TYPE_CHECKING

import click

from bsrbench.harness.visible_text import visible

if TYPE_CHECKING:
    from rich.text import Text


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text with its control characters escaped.

    Args:
        text: one or more lines.
        err: print to the error stream.
        nl: append a line feed.
    """
    click.echo(visible(text), err=err, nl=nl)


def cell(text: str) -> "Text":
    """Return a cell of a terminal table, in which text in brackets is not read as markup."""
    from rich.text import Text

    return Text(visible(text))
