"""Commands about caches: what they hold, and emptying them."""

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from bsrbench.harness.caches.cache_kind import OURS
from bsrbench.harness.cli.exits import FAILED, stop
from bsrbench.harness.cli.printing import cell, say

if TYPE_CHECKING:
    from bsrbench.harness.caches.cache_contents import CacheContents
    from bsrbench.harness.caches.kernel_verdicts import KernelVerdict

DAY = 24 * 3600
NAMES = tuple(kind.name for kind in OURS)


@click.group("cache", invoke_without_command=True)
@click.option("--long", "in_full", is_flag=True, help="Also show each file and each kernel.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.pass_context
def cache(context: click.Context, in_full: bool, as_json: bool) -> None:
    """Show what bsrbench keeps on the disk outside results folders, or empty it.

    With --long, the command also says which compiled kernels are in use on which processor, and
    why others were rejected. The exit code is 1 if a folder cannot be read.

    \b
    Examples:
      bsrbench cache
      bsrbench cache --long
      bsrbench cache clean kernels
    """  # noqa: D301 - click's mark for text that is not wrapped
    if context.invoked_subcommand is not None:
        if in_full or as_json:
            raise click.UsageError("--long and --json belong to 'bsrbench cache' alone")
        return
    from bsrbench.harness.caches.cache_contents import contents_of
    from bsrbench.harness.caches.cache_kind import KERNELS, KINDS
    from bsrbench.harness.caches.kernel_verdicts import kernel_verdicts

    caches = [contents_of(kind) for kind in KINDS]
    (kernels,) = (contents for contents in caches if contents.kind is KERNELS)
    if as_json:
        verdicts = [_verdict_json(verdict) for verdict in kernel_verdicts(kernels)]
        plain = {"caches": [_plain(contents) for contents in caches], "kernels": verdicts}
        say(json.dumps(plain, indent=1))
    else:
        _print_table(caches)
        if in_full:
            _print_files(caches, kernel_verdicts(kernels))
    for contents in caches:
        if contents.read_only:
            say(f"note: {contents.folder} is read-only: nothing is stored there", err=True)
    if faults := [contents.fault for contents in caches if contents.fault]:
        stop("\n".join(dict.fromkeys(faults)), FAILED)


@cache.command()
@click.argument("kinds", type=click.Choice(NAMES), nargs=-1, metavar=f"[{'|'.join(NAMES)}]...")
@click.option("--dry-run", "dry", is_flag=True, help="Only print what would be removed.")
def clean(kinds: tuple[str, ...], dry: bool) -> None:
    """Empty the named caches, or all of them.

    Only files that bsrbench wrote are removed, even while a run uses them: what is needed again is
    built, downloaded or decoded again. The code that torch compiled stays. A kernel that failed its
    check is checked again at its next use. The exit code is 1 if a file cannot be removed.

    \b
    Examples:
      bsrbench cache clean
      bsrbench cache clean kernels
      bsrbench cache clean --dry-run
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.caches.cache_cleaning import CacheCleaning
    from bsrbench.harness.caches.cache_contents import contents_of
    from bsrbench.reports import units

    cleaning = CacheCleaning()
    for kind in OURS:
        if not kinds or kind.name in kinds:
            cleaning.add(contents_of(kind), dry=dry)
    for path in cleaning.in_progress:
        say(f"left, because it may be in use (it was written less than a day ago): {path}")
    files = "1 file" if cleaning.files == 1 else f"{cleaning.files} files"
    size = units.storage(cleaning.size_bytes)
    say(f"{files} ({size}) would be removed" if dry else f"{files} removed, {size} freed")
    if cleaning.faults:
        stop("\n".join(dict.fromkeys(cleaning.faults)), FAILED)


def _print_table(caches: "list[CacheContents]") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from bsrbench.reports import units

    table = Table(box=SIMPLE_HEAD)
    for title in ("cache", "holds", "files", "size", "oldest", "newest"):
        table.add_column(title, justify="left" if title in {"cache", "holds"} else "right")
    for contents in caches:
        dates = [entry.written_at for entry in contents.entries]
        table.add_row(
            cell(contents.kind.name),
            cell(contents.kind.holds),
            "?" if contents.fault else str(len(dates)),
            "?" if contents.fault else units.storage(contents.size_bytes),
            _age(min(dates, default=None)),
            _age(max(dates, default=None)),
        )
    Console().print(table)
    for contents in caches:
        missing = "" if contents.exists else " (does not exist yet)"
        stays = "" if contents.kind in OURS else "; 'cache clean' does not remove it"
        say(f"{contents.kind.name}: {contents.folder}{missing}{stays}")


def _age(written_at: float | None) -> str:
    from bsrbench.harness.launch.run_tally import duration

    if written_at is None:
        return ""
    seconds = time.time() - written_at
    return f"{seconds / DAY:.0f} days ago" if seconds >= 2 * DAY else f"{duration(seconds)} ago"


def _print_files(caches: "list[CacheContents]", verdicts: "list[KernelVerdict]") -> None:
    from bsrbench.reports import units

    for contents in caches:
        if contents.kind not in OURS or not contents.entries:
            continue
        say(f"\n{contents.kind.name}")
        for entry in contents.entries:
            unfinished = ", not complete" if entry.unfinished else ""
            size, age = units.storage(entry.size_bytes), _age(entry.written_at)
            say(f"  {entry.path.name}: {size}, {age}{unfinished}")
    if verdicts:
        say("\nresults of checks")
    # Each version of the source has a file, and most of them say the same.
    for (first, *kernels), number in Counter(tuple(each.lines()) for each in verdicts).items():
        repeated = f"{number} times " if number > 1 else ""
        say("\n".join(f"  {line}" for line in (f"{repeated}{first}", *kernels)))


def _plain(contents: "CacheContents") -> dict[str, Any]:
    dates = [entry.written_at for entry in contents.entries]
    return {
        "kind": contents.kind.name,
        "folder": str(contents.folder),
        "exists": contents.exists,
        "fault": contents.fault,
        "read_only": contents.read_only,
        "files": len(dates),
        "bytes": contents.size_bytes,
        "oldest_at": min(dates, default=None),
        "newest_at": max(dates, default=None),
    }


def _verdict_json(verdict: "KernelVerdict") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(verdict) | {"path": str(verdict.path), "faults": dict(verdict.faults)}
