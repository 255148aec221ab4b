"""Options that several commands share, such as the limits of a pass."""

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
    help="Number of trainings, or of passes without a clock, that run at the same time. Times are "
    "always measured alone.",
)
PROGRESS = click.option(
    "--progress",
    type=click.Choice(["auto", "json", "quiet"]),
    default="auto",
    show_default=True,
    help="Show progress for people (auto), as lines of JSON (json), or not at all (quiet).",
)
RUN_OPTIONS = (
    click.option("--again", is_flag=True, help="Also run trials that already have a record."),
    click.option(
        "--dry-run",
        "dry",
        is_flag=True,
        help="Only print what would run, how long it takes, and how much it writes.",
    ),
    click.option("--force", is_flag=True, help="Also run trials that are predicted not to fit."),
    JOBS,
    click.option(
        "--order-seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Seed of the order in which trials run.",
    ),
    PROGRESS,
    click.option(
        "--checkpoint-seconds",
        type=Seconds(min=0),
        default=60,
        show_default=True,
        help="Seconds between checkpoints of a training. A killed training loses at most this.",
    ),
)
DATA_ROOT = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of data sets and weights. The default is BSRBENCH_DATA, or else ./data.",
)
DEVICE = click.option(
    "--device",
    help="Device of all trials: cpu, cuda, cuda:1, mps or xpu. The default is the suite's.",
)
TRUST = click.option(
    "--trust",
    multiple=True,
    metavar="FILE.py:CLASS",
    help="Allow a method file that the suite names to run; can be repeated.",
)
CLUSTER_OPTIONS = (
    click.option(
        "--launcher",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Run on this machine (local) or on the nodes of a Ray cluster (ray).",
    ),
    click.option("--address", help="Address of the cluster, as 'ray start' prints it."),
    click.option(
        "--label",
        default="",
        help="Use only nodes that have this resource, for example jetson. The default is any node.",
    ),
)
LIMIT_OPTIONS = (
    click.option(
        "--timeout", type=Seconds(min=0, min_open=True), help="Time limit of one pass, in seconds."
    ),
    click.option(
        "--memory-limit",
        metavar="SIZE",
        help="Memory limit of one pass's process, with libraries: 4GiB. The kernel enforces it.",
    ),
)


def with_options(
    *options: Callable[[Callable[..., None]], Callable[..., None]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds several options to a command, in this order."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def gathers(kind: type[Any], name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that passes some options to a command as one dataclass.

    Args:
        kind: the dataclass. Its fields have the names of options; a field that is not an option
            keeps its default.
        name: the parameter of the command that gets the dataclass.
    """
    names = [field.name for field in fields(kind)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def called(**typed: object) -> None:  # click passes each option by keyword
            own = {option: typed.pop(option) for option in names if option in typed}
            command(**typed, **{name: kind(**own)})

        return called

    return decorate
