"""The command line: parse options, call the program, print. Each command imports what it needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from bsrbench.harness.cli.authors import check, new_method
from bsrbench.harness.cli.cache import cache
from bsrbench.harness.cli.completion import completion
from bsrbench.harness.cli.exits import (
    BAD_INPUT,
    INTERRUPTED,
    STOPPED,
    Interrupts,
    leave_quickly,
    stop,
)
from bsrbench.harness.cli.goals import goals
from bsrbench.harness.cli.health import doctor
from bsrbench.harness.cli.lists import list_
from bsrbench.harness.cli.maintenance import care
from bsrbench.harness.cli.one_workload import estimate, fit, profile
from bsrbench.harness.cli.results import claims, compare, export, report
from bsrbench.harness.cli.search import search
from bsrbench.harness.cli.status import status
from bsrbench.harness.cli.suites import run, tune
from bsrbench.harness.cli.version import print_version
from bsrbench.harness.errors import BadInput, shortened, unknown
from bsrbench.harness.records.environment_variables import require_readable
from bsrbench.harness.visible_text import visible


@contextmanager
def _shown() -> Iterator[None]:
    """Escape control characters in the errors that click raises about a command line."""
    try:
        yield
    except click.ClickException as error:
        message = visible(error.format_message())
        if isinstance(error, click.UsageError):
            raise click.UsageError(message, error.ctx) from error
        raise click.ClickException(message) from error


def _in_words(error: Exception) -> str:
    """Return the message of an error that the user can correct: bad input or an unusable path.

    Raises:
        Exception: any other error, unchanged.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {shortened(str(error.filename))}: {error.strerror or error}"
    if isinstance(error, BadInput):
        return str(error)
    raise error


class Program(click.Group):
    """Reports bad input and Ctrl-C as one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command.

        Exit codes: 1 if a trial did not complete, 2 for bad input, 130 after Ctrl-C.
        """
        leave_quickly()
        with Interrupts() as interrupts:
            try:
                require_readable()
                with _shown():
                    return super().invoke(ctx)
            except KeyboardInterrupt:
                stop(STOPPED, INTERRUPTED)
            except Exception as error:  # noqa: BLE001 - other errors are raised again
                if interrupts.pressed:
                    stop(STOPPED, INTERRUPTED)
                stop(f"error: {_in_words(error)}", BAD_INPUT)

    def make_context(self, *arguments: Any, **how: Any) -> click.Context:
        """Parse the command line; error messages escape its control characters."""
        with _shown():
            return super().make_context(*arguments, **how)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for an unknown name, suggest the nearest one."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the versions of bsrbench, torch and timm, and the available devices.",
)
def main() -> None:
    """Compare memory-efficient fine-tuning of vision transformers with BSR.

    \b
    Examples:
      bsrbench run quick
      bsrbench compare head bsr
      bsrbench profile --model deit_small_patch16_224 --method bsr --batch 8
      bsrbench list methods --long

    Exit codes: 0 success; 1 a trial did not complete, a --fail-if condition is true, or a check
    failed; 2 bad input; 130 Ctrl-C; 143 SIGTERM; 129 SIGHUP. An interrupted run keeps what it has
    measured.
    """  # noqa: D301 - click's mark for text that is not wrapped


COMMANDS = (
    *(run, tune, profile, estimate, fit, search, doctor),
    *(report, compare, goals, export, claims, list_),
    *(status, care, cache, new_method, check, completion),
)
for command in COMMANDS:
    main.add_command(command)
