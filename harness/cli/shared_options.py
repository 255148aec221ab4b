"""Options that several commands share, among them what a pass may take."""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from bsrbench.harness.cli.settings import Seconds

JOBS = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Trials that only train, at a time; what is measured always runs alone.",
)
PROGRESS = click.option(
    "--progress",
    type=click.Choice(["auto", "json", "quiet"]),
    default="auto",
    show_default=True,
    help="For people, as lines of JSON, or not at all.",
)
RUN_OPTIONS = (
    click.option("--again", is_flag=True, help="Run trials that are stored already, too."),
    click.option(
        "--dry-run",
        "dry",
        is_flag=True,
        help="Only say what would run, for how long, and what it writes.",
    ),
    click.option("--force", is_flag=True, help="Run what is predicted not to fit, too."),
    JOBS,
    click.option(
        "--order-seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Draws the order in which trials run.",
    ),
    PROGRESS,
    click.option(
        "--checkpoint-seconds",
        type=Seconds(min=0),
        default=60,
        show_default=True,
        help="How much of a long training a kill may lose.",
    ),
)
DATA_ROOT = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of data sets and weights; BSRBENCH_DATA or ./data unless said.",
)
TRUST = click.option(
    "--trust",
    multiple=True,
    metavar="FILE.py:CLASS",
    help="Run this file, which the suite names as a method; may be given again.",
)
CLUSTER_OPTIONS = (
    click.option(
        "--launcher",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Here, or on the nodes of a Ray cluster.",
    ),
    click.option("--address", help="Of the cluster, as 'ray start' prints it."),
    click.option(
        "--label", default="", help="A resource that a node must have, as jetson; any node if not."
    ),
)
LIMIT_OPTIONS = (
    click.option("--timeout", type=Seconds(min=0, min_open=True), help="Seconds a pass may take."),
    click.option(
        "--memory-limit",
        metavar="SIZE",
        help="What a pass's process may take, libraries included: 4GiB. The kernel refuses more.",
    ),
)


def with_options(
    *options: Callable[[Callable[..., None]], Callable[..., None]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command several options, in this order."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def gathers(kind: type[Any], name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that hands a command some of its options as one value.

    Args:
        kind: a dataclass, whose fields have the names of options; the others keep their defaults.
        name: of the command's parameter.
    """
    names = [field.name for field in fields(kind)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def called(**typed: object) -> None:  # as click calls: a keyword for each option
            own = {option: typed.pop(option) for option in names if option in typed}
            command(**typed, **{name: kind(**own)})

        return called

    return decorate
