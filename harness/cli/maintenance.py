"""Commands that look after results folders: results check, repair, merge."""

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
    """Look after results folders: check, repair, merge.

    \b
    Examples:
      bsrbench results check results/local/quick
      bsrbench results merge results/all results/workstation results/laptop
    """  # noqa: D301 - click's mark for text that is not wrapped


@care.command()
@click.argument("folder", type=FOLDER)
def check(folder: Path) -> None:
    """Say which files of a results folder are not as they should be.

    Ends with exit code 1 if any is: a record that is damaged, or whose spec, key or content was
    changed, a sidecar without a record, half a file. Records of schema 6 and before have no hash
    by which a changed number is noticed; it says how many.

    It also says which records are stale, and why: the source of their method, or the source that
    measures, has changed since they were made. 'run' makes them again; stale is no fault.

    \b
    Example:
      bsrbench results check results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records import results_maintenance
    from bsrbench.harness.records.store import RECORDS, STAGED

    whole = results_maintenance.survey(folder)
    found = whole.troubles
    for trouble in found:
        say(f"{trouble.path}: {trouble.what}")
    for line in _stale(whole.made_by):
        say(line)
    if whole.unhashed:
        say(f"{whole.unhashed} records have no hash of their content (schema 6 and before)")
    staged = len([path for path in (folder / STAGED).glob("*.json") if path.name[0] != "."])
    if staged:
        say(f"{staged} passes of trials that are not complete; the next run goes on")
    records = len(results_maintenance.files_in(folder / RECORDS))
    if found:
        stop(f"{records} records, {len(found)} files to repair: bsrbench results repair", FAILED)
    say(f"{records} records, all as they should be")


def _stale(made_by: "Mapping[MadeBy, int]") -> list[str]:
    """Return which records are stale, without loading a method or torch."""
    from bsrbench.harness.records.measuring_source import measuring_hash
    from bsrbench.harness.records.staleness import shipped_fingerprint, stale_records

    return stale_records(made_by, functools.cache(shipped_fingerprint), measuring_hash())


@care.command()
@click.argument("folder", type=FOLDER)
def repair(folder: Path) -> None:
    """Move what 'results check' finds out of the way, into the folder's own folder 'aside'.

    No record is deleted; of a trial whose record was damaged, 'run' makes a new one.

    \b
    Example:
      bsrbench results repair results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records import results_maintenance

    for trouble in results_maintenance.repair(folder):
        where = "removed" if trouble.target is None else f"now {trouble.target}"
        say(f"{trouble.path}: {trouble.what}; {where}")
    say("everything is as it should be")


@care.command()
@click.argument("into", type=FOLDER)
@click.argument("others", type=FOLDER, nargs=-1, required=True)
def merge(into: Path, others: tuple[Path, ...]) -> None:
    """Copy the records of OTHERS, from other machines say, into the folder INTO.

    Records that are there already are left alone. One whose key is there with another content is
    a conflict: it is named, neither is changed, and the exit code is 1. So is one left out that
    cannot be read, or was changed after it was stored.

    \b
    Example:
      bsrbench results merge results/all results/workstation results/laptop
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records import results_merge

    done = results_merge.merge(into, others)
    say(f"{len(done.copied)} records copied into {into}, {done.same} were there already")
    failed = [f"conflict: {said}" for said in done.conflicts]
    failed += [f"left out: {reason}" for reason in done.unreadable]
    if failed:
        stop("\n".join(failed), FAILED)
