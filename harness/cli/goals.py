"""The command that says whether the goals of a suite are met, and what run prints of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsrbench.harness.cli.completion import suite_names
from bsrbench.harness.cli.printing import say
from bsrbench.harness.cli.results import LOCAL_RESULTS
from bsrbench.harness.errors import BadInput

if TYPE_CHECKING:
    from bsrbench.harness.spec.suite import Suite

PAGE = "goals.md"


@click.command()
@click.argument("suite", shell_complete=suite_names)
@click.argument("results", type=click.Path(path_type=Path), required=False)
def goals(suite: str, results: Path | None) -> None:
    """Say which goals of a suite its results meet.

    A goal is a bound on the ratio of two rows, in the table [[goals]] of the suite. RESULTS is a
    results folder of 'run'; the default is results/local/SUITE. The table is also written to
    goals.md in this folder. A goal that is missed does not change the exit code.

    \b
    Example:
      bsrbench goals gpu results/local/gpu
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.spec import suite_file

    path = suite_file.find(suite)
    whole = suite_file.read(path)
    if not whole.goals:
        raise BadInput(f"{path} has no goals: write them as [[goals]] into the suite")
    check_goals(whole)
    report_goals(whole, results or LOCAL_RESULTS / path.stem, path.stem)


def check_goals(suite: "Suite") -> None:
    """Check the goals of a suite before anything runs.

    Raises:
        BadInput: the metric of a goal is unknown or cannot be judged.
    """
    if suite.goals:
        from bsrbench.reports.compare.judged_goals import require_known

        require_known(suite.goals)


def report_goals(suite: "Suite", folder: Path, title: str) -> None:
    """Print the goals of a suite with what was measured, and write ``goals.md``."""
    from rich.console import Console

    from bsrbench.harness.records.store import gather
    from bsrbench.reports.compare.comparison import compare
    from bsrbench.reports.compare.judged_goals import judge
    from bsrbench.reports.documents import goals_table

    pool = gather([folder])
    judged = judge(suite.goals, compare(pool.records, pool.detail))
    goals_table.show(judged, Console())
    goals_table.write(judged, f"bsrbench: goals of {title}", folder / PAGE)
    say(f"goals: {folder / PAGE}")
