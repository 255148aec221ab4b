"""The goals of a suite, one table per question: goal, measured, met."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsrbench.harness.files import write_whole
from bsrbench.reports.compare.judged_goals import JudgedGoal, Met
from bsrbench.reports.wording.markdown_syntax import escape, table_of
from bsrbench.reports.wording.safe_text import on_one_line

TITLES = ("goal", "measured", "met")
NO_QUESTION = "no record of these questions"


def show(judged: Sequence[JudgedGoal], console: Console) -> None:
    """Print the tables and how many goals are met."""
    for setting, goals in _by_question(judged).items():
        drawn = Table(box=SIMPLE_HEAD)
        for title in TITLES:
            drawn.add_column(title)
        for each in goals:
            drawn.add_row(*map(Text, _cells(each)))
        console.print(Text(f"goals: {setting}"))
        console.print(drawn)
    console.print(summary(judged))


def write(judged: Sequence[JudgedGoal], title: str, path: Path) -> None:
    """Write the tables as Markdown."""
    parts = [f"# {escape(title)}"]
    for setting, goals in _by_question(judged).items():
        parts += [f"## {escape(setting)}", table_of(list(TITLES), list(map(_cells, goals)))]
    write_whole(path, "\n\n".join([*parts, f"{summary(judged)}\n"]))


def summary(judged: Sequence[JudgedGoal]) -> str:
    """Return how many goals are met, missed and not measured."""
    count = {met: sum(each.met is met for each in judged) for met in Met}
    return (
        f"{count[Met.YES]} of {len(judged)} goals met, {count[Met.NO]} missed, "
        f"{count[Met.UNKNOWN]} not measured"
    )


def _by_question(judged: Sequence[JudgedGoal]) -> dict[str, list[JudgedGoal]]:
    groups: dict[str, list[JudgedGoal]] = {}
    for each in judged:
        groups.setdefault(on_one_line(each.setting) or NO_QUESTION, []).append(each)
    return groups


def _cells(judged: JudgedGoal) -> list[str]:
    measured = judged.why
    if judged.ratio is not None:
        measured = f"{judged.ratio:.3f}"
        if judged.interval is not None:
            low, high = judged.interval
            measured += f" [{low:.3f}, {high:.3f}]"
    return [on_one_line(text) for text in (judged.words(), measured, judged.met.value)]
