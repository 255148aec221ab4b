"""How commands end."""

import sys
from typing import NoReturn

import click

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def stop(message: str, code: int) -> NoReturn:
    """Print a message to the error stream and end with an exit code."""
    click.echo(message, err=True)
    sys.exit(code)
