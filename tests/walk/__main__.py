"""Walk every method over every vision transformer that timm has, and write the table.

What was walked is kept, and walked again only when a source has changed: a walk that was cut off
goes on where it was, and models that are built alike are walked once.
"""

import multiprocessing
import sys
from collections.abc import Iterable

import click

from bsrbench.harness.workload import models
from tests.walk import listing, reasons, table
from tests.walk.cells import EQUAL, UNCOUNTED
from tests.walk.walked import failed, walked


@click.command()
@click.argument("names", nargs=-1)
@click.option("--processes", default=2, show_default=True, help="That walk beside each other.")
def main(names: tuple[str, ...], processes: int) -> None:
    """Walk the models named, or all of them; only a whole walk writes the table."""
    found = names or listing.candidates()
    rows, failures = [], []
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=100) as pool:
        for number, row in enumerate(pool.imap_unordered(walked, found), start=1):
            if row is None:
                continue
            rows.append(row)
            bad = [f"{row.model}, {m}: {what}" for m, what in failed(row.outcomes)]
            works = sum(what == EQUAL for what in row.outcomes.values())
            click.echo(f"{number} of {len(found)}: {row.model}: {works} work")
            failures += bad
    failures += [] if names else _listed_by_one(row.model for row in rows if row.tokens)
    click.echo("\n".join(failures) or f"{len(rows)} models, nothing wrong")
    if failures:
        sys.exit(1)
    if not names:
        table.write(rows)
        meanings = {reason.key: reason.meaning for reason in reasons.REASONS}
        table.write_meanings(meanings | {UNCOUNTED: reasons.UNCOUNTED})


def _listed_by_one(plain: Iterable[str]) -> list[str]:
    """Return what is listed here or by the program, and not by both."""
    return [f"{name} is listed by one rule alone" for name in sorted({*plain} ^ {*models.names()})]


if __name__ == "__main__":
    main()
