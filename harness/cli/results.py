"""Commands on results: report, compare, export, claims."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsrbench.harness.cli.exits import FAILED
from bsrbench.harness.cli.printing import say
from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import write_whole

if TYPE_CHECKING:
    from bsrbench.harness.records.store import Gathered
    from bsrbench.reports.compare.contrast import Contrast
    from bsrbench.reports.compare.counterparts import UnpairedRow

LOCAL_RESULTS = Path("results") / "local"
TERMINAL = "terminal"
PASS, FAIL = "pass", "fail"


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
def report(results: Path) -> None:
    """Write the report of a results folder again from its records, and print its table.

    \b
    Example:
      bsrbench report results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    make_report(results, results.resolve().name)


def make_report(folder: Path, title: str) -> None:
    """Write the report documents into a results folder and print its table."""
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
    help="A results folder; can be repeated. The default is all folders in results/local.",
)
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Exit with code 1 if this is true: 'ratio(peak_counted_bytes) > 1.02'; can be repeated.",
)
@click.option(
    "--undecided",
    type=click.Choice([PASS, FAIL]),
    default=PASS,
    show_default=True,
    help="Whether a build passes if the interval of a ratio of times contains the limit.",
)
@click.option(
    "--unlike",
    is_flag=True,
    help="Also compare rows that differ in model, data, size, batch or kind of device, or in "
    "settings that choose kernels.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([TERMINAL, "markdown", "latex", "csv", "json"]),
    default=TERMINAL,
    show_default=True,
)
@click.option("--output", type=click.Path(path_type=Path), help="File to write instead of stdout.")
def compare(
    new: str,
    baseline: str,
    folders: tuple[Path, ...],
    conditions: tuple[str, ...],
    undecided: str,
    unlike: bool,
    form: str,
    output: Path | None,
) -> None:
    """Compare NEW with BASELINE, metric by metric, with intervals and a verdict in words.

    Each can be a row label as printed in reports, the file of a record, a results folder, or
    commit:HASH for the records made at a commit. The label 'bsr' is the row without options,
    'full (micro-batch 4)' is another row, and 'full*' is every row that begins with 'full'.

    Rows of folders and commits are matched by method, options and axes. A row without a
    counterpart is listed. A row that is missing from NEW fails a comparison with --fail-if. A
    condition on a ratio of times is true if its whole interval is beyond the limit. The output
    lists every setting and condition in which the two sides differ.

    \b
    Examples:
      bsrbench compare mine.py:Mine bsr --results results/local/quick
      bsrbench compare bsr full --fail-if 'ratio(peak_counted_bytes) > 0.5'
      bsrbench compare commit:1a2b3c commit:4d5e6f --results results/local/quick
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.reports.compare import contrast, gate, matching

    parsed = [gate.parse_judged(text) for text in conditions]
    pool = _gather(folders, needed=not _exists(new))
    _say_aside(pool.aside)
    matched = matching.match(new, baseline, pool, even_unlike=unlike)
    for line in matched.said:
        say(line, err=True)
    contrasts = contrast.contrast(matched.pairs, pool.detail)
    _put_out(contrasts, matched.alone, form, output)
    _say_doubts(pool)
    outcome = gate.judge(contrasts, parsed, matched.alone)
    for reason in outcome.undecided:
        say(f"undecided: {reason}", err=True)
    for reason in outcome.failed:
        say(f"failed: {reason}", err=True)
    if outcome.failed or (outcome.undecided and undecided == FAIL):
        sys.exit(FAILED)


def _gather(folders: Sequence[Path], *, needed: bool) -> "Gathered":
    """Return the records of the given folders, or of all folders in ``LOCAL_RESULTS``."""
    from bsrbench.harness.records.store import RECORDS, gather

    if folders:
        return gather(folders)
    local_folders = sorted(path.parent for path in LOCAL_RESULTS.glob(f"*/{RECORDS}"))
    if needed and not local_folders:
        raise BadInput(
            f"no results in {LOCAL_RESULTS}: run a suite ('bsrbench run quick'), or name folders "
            "with --results"
        )
    return gather(local_folders)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long for a file name, or with a null byte
        return False


def _put_out(
    contrasts: "Sequence[Contrast]", alone: "Sequence[UnpairedRow]", form: str, output: Path | None
) -> None:
    from rich.console import Console

    from bsrbench.reports.documents import contrast_document

    if form == TERMINAL and output is None:
        contrast_document.show(contrasts, Console(), alone)
        return
    text = contrast_document.FORMATS[form if form != TERMINAL else "markdown"](contrasts, alone)
    _write(text, output)
    if output is not None:
        for row in alone:
            say(f"{contrast_document.ALONE}: {row.said}", err=True)


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
@click.option("--parquet", type=click.Path(path_type=Path), help="Parquet file; needs pyarrow.")
@click.option("--csv", "as_csv", type=click.Path(path_type=Path), help="CSV file.")
@click.option(
    "--json", "as_json", type=click.Path(path_type=Path), help="JSON file, one line per record."
)
def export(
    results: tuple[Path, ...], parquet: Path | None, as_csv: Path | None, as_json: Path | None
) -> None:
    """Write all records of results folders into one table, unrounded, one line per record.

    The columns are key, outcome, every setting and every metric. Samples are lists, written as
    JSON in CSV. RESULTS are results folders of 'run'.

    \b
    Examples:
      bsrbench export results/local/quick --csv all.csv
      bsrbench export results/local/* --parquet all.parquet
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.records.store import gather
    from bsrbench.reports.documents import export as table

    if not (parquet or as_csv or as_json):
        raise BadInput("no output file: give one with --parquet, --csv or --json")
    pool = gather(results)
    _say_aside(pool.aside)
    _say_doubts(pool)
    frame = table.frame(pool.records)
    for path, write in (
        *((parquet, table.to_parquet), (as_csv, table.to_csv)),
        (as_json, table.to_json),
    ):
        if path is not None:
            write(frame, path)
            say(f"{len(frame)} records: {path}")


@click.command()
@click.argument("results", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Markdown file to write instead of stdout."
)
def claims(results: tuple[Path, ...], output: Path | None) -> None:
    """Report which of BSR's claims hold, for each definition and each baseline.

    RESULTS are results folders of 'run'.

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
    """Print which records were changed, and which sidecars could not be read."""
    for doubt in pool.doubts:
        say(f"note: {doubt}", err=True)
