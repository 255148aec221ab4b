"""Commands that maintain results folders: results check, repair, merge."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsrbench.harness.cli.exits import FAILED, stop
from bsrbench.harness.cli.printing import say

if TYPE_CHECKING:
    from bsrbench.harness.records.staleness import MadeBy

FOLDER = click.Path(path_type=Path)


@click.group("results")
def care() -> None:
    """Maintain results folders: check, repair, merge.

    \b
    Examples:
      bsrbench results check results/local/quick
      bsrbench results merge results/all results/workstation results/laptop
    """  # noqa: D301 - click's mark for text that is not wrapped


@care.command()
@click.argument("folder", type=FOLDER)
def check(folder: Path) -> None:
    """List the damaged files of a results folder.

    Damaged files are: a record that cannot be read, a record whose spec, key or content was
    changed, a sidecar without a record, and an incomplete file. The exit code is 1 if there are
    any. Records of schema 6 and older have no hash of their content, so a changed number in them
    cannot be detected; the command prints how many there are.

    The command also lists stale records and the reason: the source of their method, or of the
    measuring code, has changed since they were made. 'run' measures these trials again. A stale
    record is not damaged.

    \b
    Example:
      bsrbench results check results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records import results_maintenance
    from bsrbench.harness.records.store import RECORDS, STAGED

    whole = results_maintenance.survey(folder)
    damaged = whole.troubles
    for trouble in damaged:
        say(f"{trouble.path}: {trouble.what}")
    for line in _stale(whole.made_by):
        say(line)
    if whole.unhashed:
        say(f"{whole.unhashed} records have no hash of their content (schema 6 and older)")
    staged = len([path for path in (folder / STAGED).glob("*.json") if path.name[0] != "."])
    if staged:
        say(f"{staged} passes of incomplete trials are stored; the next run resumes from them")
    records = len(results_maintenance.files_in(folder / RECORDS))
    if damaged:
        stop(f"{records} records, {len(damaged)} files to repair: bsrbench results repair", FAILED)
    say(f"{records} records, no damaged files")


def _stale(made_by: "Mapping[MadeBy, int]") -> list[str]:
    """Return which records are stale, without loading a method or torch."""
    from bsrbench.harness.records.measuring_source import measuring_hash
    from bsrbench.harness.records.staleness import shipped_fingerprint, stale_records

    return stale_records(made_by, functools.cache(shipped_fingerprint), measuring_hash())


@care.command()
@click.argument("folder", type=FOLDER)
def repair(folder: Path) -> None:
    """Move the damaged files that 'results check' lists into the subfolder 'aside'.

    No record is deleted. 'run' measures the trials of damaged records again.

    \b
    Example:
      bsrbench results repair results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records import results_maintenance

    for trouble in results_maintenance.repair(folder):
        where = "removed" if trouble.target is None else f"now {trouble.target}"
        say(f"{trouble.path}: {trouble.what}; {where}")
    say("the results folder has no damaged files")


@care.command()
@click.argument("into", type=FOLDER)
@click.argument("others", type=FOLDER, nargs=-1, required=True)
def merge(into: Path, others: tuple[Path, ...]) -> None:
    """Copy the records of the folders OTHERS, for example from other machines, into INTO.

    Records that INTO already has are not changed. Two records with the same key and different
    contents are a conflict: both stay as they are, and the conflict is printed. A record that
    cannot be read, or was changed after it was stored, is not copied. In both cases the exit code
    is 1.

    \b
    Example:
      bsrbench results merge results/all results/workstation results/laptop
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records import results_merge

    done = results_merge.merge(into, others)
    say(f"{len(done.copied)} records copied into {into}, {done.same} were already there")
    failed = [f"conflict: {conflict}" for conflict in done.conflicts]
    failed += [f"not copied: {reason}" for reason in done.unreadable]
    if failed:
        stop("\n".join(failed), FAILED)
