"""Commands over results: report, compare, export, claims."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsrbench.harness.cli.exits import FAILED, stop
from bsrbench.harness.cli.printing import say
from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import write_whole

if TYPE_CHECKING:
    from bsrbench.harness.records.store import Gathered
    from bsrbench.reports.compare.contrast import Contrast
    from bsrbench.reports.compare.counterparts import UnpairedRow

LOCAL_RESULTS = Path("results") / "local"
TERMINAL = "terminal"


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
def report(results: Path) -> None:
    """Make the documents of a results folder again from its records, and print its table.

    \b
    Example:
      bsrbench report results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    make_report(results, results.resolve().name)


def make_report(folder: Path, title: str) -> None:
    """Write the documents of a results folder into it and print its table."""
    from rich.console import Console

    from bsrbench.harness.records.store import gather
    from bsrbench.reports.documents import terminal_table, write_report

    pool = gather([folder])
    _say_aside(pool.aside)
    write_report.write(
        pool.records,
        folder,
        f"bsrbench: {title}",
        pool.detail,
        lambda comparisons: terminal_table.show(comparisons, Console()),
    )
    _say_doubts(pool)
    say(f"report: {folder / 'report.html'}")


@click.command()
@click.argument("new")
@click.argument("baseline", default="bsr")
@click.option(
    "--results",
    "folders",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A results folder, may be given again; all below results/local unless said.",
)
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="End with exit code 1 if so: 'ratio(peak_counted_bytes) > 1.02'; may be given again.",
)
@click.option("--unlike", is_flag=True, help="Compare another model, data set, size or batch, too.")
@click.option(
    "--format",
    "form",
    type=click.Choice([TERMINAL, "markdown", "latex", "csv", "json"]),
    default=TERMINAL,
    show_default=True,
)
@click.option("--output", type=click.Path(path_type=Path), help="A file; else printed.")
def compare(
    new: str,
    baseline: str,
    folders: tuple[Path, ...],
    conditions: tuple[str, ...],
    unlike: bool,
    form: str,
    output: Path | None,
) -> None:
    """Put NEW against BASELINE, metric by metric, with intervals and a verdict in words.

    Each is a row by the label that reports print ('bsr' is the row without options, 'full
    (micro-batch 4)' another, 'full*' all that begin so), a record's file, a results folder, or
    commit:HASH for the records made at a commit. Rows of folders and commits are matched by
    method, options and axes; one without a counterpart is named, and a gate fails by one that the
    new results have lost. Says every setting and circumstance in which the two differ.

    \b
    Examples:
      bsrbench compare mine.py:Mine bsr --results results/local/quick
      bsrbench compare bsr full --fail-if 'ratio(peak_counted_bytes) > 0.5'
      bsrbench compare commit:1a2b3c commit:4d5e6f --results results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.reports.compare import contrast, gate, matching

    wanted = [gate.parse_judged(text) for text in conditions]
    pool = _gather(folders, needed=not _exists(new))
    _say_aside(pool.aside)
    matched = matching.match(new, baseline, pool, even_unlike=unlike)
    for line in matched.said:
        say(line, err=True)
    found = contrast.contrast(matched.pairs, pool.detail)
    _put_out(found, matched.alone, form, output)
    _say_doubts(pool)
    reasons = gate.failures(found, wanted, matched.alone)
    if reasons:
        stop("\n".join(f"failed: {reason}" for reason in reasons), FAILED)


def _gather(folders: Sequence[Path], *, needed: bool) -> "Gathered":
    """Return the records of the folders named, or of all that were run here."""
    from bsrbench.harness.records.store import RECORDS, gather

    if folders:
        return gather(folders)
    found = sorted(path.parent for path in LOCAL_RESULTS.glob(f"*/{RECORDS}"))
    if needed and not found:
        raise BadInput(
            f"no results below {LOCAL_RESULTS}: run a suite ('bsrbench run quick'), or name "
            "folders with --results"
        )
    return gather(found)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # longer than a file's name, or with a null byte
        return False


def _put_out(
    found: "Sequence[Contrast]", alone: "Sequence[Alone]", form: str, output: Path | None
) -> None:
    from rich.console import Console

    from bsrbench.reports.documents import contrast_document

    if form == TERMINAL and output is None:
        contrast_document.show(found, Console(), alone)
        return
    text = contrast_document.FORMATS[form if form != TERMINAL else "markdown"](found, alone)
    _write(text, output)
    if output is not None:
        for one in alone:
            say(f"{contrast_write.ALONE}: {one.said}", err=True)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        say(text, nl=False)
        return
    try:
        write_whole(output, text)
    except OSError as error:
        raise BadInput(f"cannot write {output}: {error.strerror}") from error


@click.command()
@click.argument("results", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--parquet", type=click.Path(path_type=Path), help="A file; needs pyarrow.")
@click.option("--csv", "as_csv", type=click.Path(path_type=Path), help="A file.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="A file, a line a record.")
def export(
    results: tuple[Path, ...], parquet: Path | None, as_csv: Path | None, as_json: Path | None
) -> None:
    """Write all records of results folders into one table, a line a record, unrounded.

    A column each for key, outcome, every setting and every metric; samples are lists (in CSV as
    JSON). RESULTS are folders that 'run' made.

    \b
    Examples:
      bsrbench export results/local/quick --csv all.csv
      bsrbench export results/local/* --parquet all.parquet
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records.store import gather
    from bsrbench.reports.documents import export as table

    if not (parquet or as_csv or as_json):
        raise BadInput("nothing to write: name a file with --parquet, --csv or --json")
    pool = gather(results)
    _say_aside(pool.aside)
    _say_doubts(pool)
    frame = table.frame(pool.records)
    for path, write_report in (
        *((parquet, table.to_parquet), (as_csv, table.to_csv)),
        (as_json, table.to_json),
    ):
        if path is not None:
            write_report(frame, path)
            say(f"{len(frame)} records: {path}")


@click.command()
@click.argument("results", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--output", type=click.Path(path_type=Path), help="A Markdown file; else printed.")
def claims(results: tuple[Path, ...], output: Path | None) -> None:
    """Say which of BSR's claims hold, under each definition and against each baseline.

    RESULTS are folders that 'run' made.

    \b
    Example:
      bsrbench claims results/local/quick --output claims.md
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records.store import gather
    from bsrbench.reports.wording.claims import page

    pool = gather(results)
    _say_aside(pool.aside)
    text = page(pool.records, pool.detail)
    _say_doubts(pool)
    _write(text, output)


def _say_aside(reasons: Sequence[str]) -> None:
    for reason in reasons:
        say(f"set aside: {reason}", err=True)


def _say_doubts(pool: "Gathered") -> None:
    """Name the records that were changed, and the sidecars that could not be read."""
    for doubt in pool.doubts:
        say(f"note: {doubt}", err=True)
