"""Hold drills: all, or those whose names are given; a line each, and exit code 1 if one fails."""

import os
import sys
import time

import click

from tests.drills.drills import ALL, NEED_MOUNTS

APART = "BSRBENCH_DRILLS_APART"  # set where mounts are seen by nobody else


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Hold the drills named, or all of them."""
    drills = [drill for drill in ALL if not names or drill.__name__ in names]
    if os.geteuid() == 0 and APART not in os.environ and set(drills) & set(NEED_MOUNTS):
        os.environ[APART] = "1"
        command = [sys.executable, "-m", "tests.drills", *names]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *command])  # noqa: S606
    failed = 0
    for drill in drills:
        if drill in NEED_MOUNTS and APART not in os.environ:
            click.echo(f"NOT HELD  {drill.__name__}: only root may mount")
            continue
        began = time.monotonic()
        try:
            said, word = drill(), "held"
        except AssertionError as error:
            said, word = str(error), "FAILED"
            failed += 1
        click.echo(f"{word}  {drill.__name__}, {time.monotonic() - began:.0f} s: {said}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
