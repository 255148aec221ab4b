"""Contrasts as a document: terminal, Markdown, LaTeX, CSV or JSON."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsrbench.harness.records.metrics import METRICS
from bsrbench.reports.compare.contrast import Contrast
from bsrbench.reports.compare.counterparts import UnpairedRow
from bsrbench.reports.compare.metric_finding import TaskFinding
from bsrbench.reports.compare.verdict import VerdictWord
from bsrbench.reports.documents import latex_tables
from bsrbench.reports.wording import contrast_table as table
from bsrbench.reports.wording import markdown_syntax
from bsrbench.reports.wording.safe_text import in_csv, on_one_line

WIDE = 100  # characters; on a narrower terminal the table has no padding
FOLDED = ("metric", "verdict")  # columns whose text is wrapped if the terminal is narrow
BROKEN = {"baseline": "base-\nline", "difference": "differ-\nence"}
ALONE = "without a counterpart"
STYLES = {VerdictWord.BETTER: "green", VerdictWord.WORSE: "red"}


def show(
    contrasts: Sequence[Contrast], console: Console, alone: Sequence[UnpairedRow] = ()
) -> None:
    """Print each contrast: sentence, table, different settings, notes; then unpaired rows."""
    for contrast, sentence in zip(contrasts, table.summary(contrasts), strict=True):
        _say(console, on_one_line(sentence))
        console.print(_drawn(contrast, narrow=console.width < WIDE))
        _lines(console, "no clear verdict", table.reasons(contrast))
        rows = table.task_rows(contrast)
        task_lines = [f"{task}: {new} against {old} ({apart})" for task, new, old, apart, _ in rows]
        _lines(console, "accuracy per task (only the mean is judged)", task_lines)
        _lines(console, "spread of accuracies", table.spreads(contrast))
        unlike = [f"{name}: {new} | {old}" for name, new, old in table.unlike_rows(contrast)]
        _lines(
            console,
            f"different settings ({contrast.new.label} | {contrast.baseline.label})",
            unlike,
        )
        _lines(console, "notes", contrast.remarks)
    _lines(console, ALONE, [unpaired.said for unpaired in alone])
    _say(console, table.METHOD)


def _drawn(contrast: Contrast, *, narrow: bool) -> Table:
    padding = 0 if narrow else (0, 1, 0, 0)
    drawn = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=padding)
    for title in table.TITLES:
        words = title in FOLDED
        heading = Text(BROKEN.get(title, title.replace(" ", "\n", 1)) if narrow else title)
        drawn.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    for finding, row in zip(contrast.findings, table.rows(contrast), strict=True):
        # With a no-break space, no line of a cell begins with the percent sign.
        cells = [Text(cell.replace(" %", "\u00a0%")) for cell in row]
        cells[-1].stylize(STYLES.get(finding.verdict.word, ""))
        drawn.add_row(*cells)
    return drawn


def _lines(console: Console, title: str, lines: Sequence[str]) -> None:
    if lines:
        _say(console, f"{on_one_line(title)}:")
    for line in lines:
        _say(console, f"  {on_one_line(line)}")


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True, highlight=False)


def to_markdown(contrasts: Sequence[Contrast], alone: Sequence[UnpairedRow] = ()) -> str:
    """Return a Markdown document, for example for a pull request."""
    parts = ["# Comparison"]
    for contrast, sentence in zip(contrasts, table.summary(contrasts), strict=True):
        heading = f"{contrast.new.label} against {contrast.baseline.label}"
        heading += f" on {contrast.setting}" if len(contrasts) > 1 else ""
        parts += [f"## {markdown_syntax.escape(heading)}", markdown_syntax.escape(sentence)]
        parts.append(markdown_syntax.table_of(list(table.TITLES), table.rows(contrast)))
        if contrast.tasks:
            parts += ["### Accuracy per task", "Only their mean is judged."]
            parts.append(
                markdown_syntax.table_of(list(table.TASK_TITLES), table.task_rows(contrast))
            )
        parts += markdown_syntax.lines("No clear verdict", table.reasons(contrast))
        parts += markdown_syntax.lines("Spread of accuracies", table.spreads(contrast))
        unlike = table.unlike_rows(contrast)
        if unlike:
            titles = ["", contrast.new.label, contrast.baseline.label]
            parts += ["### Different settings", markdown_syntax.table_of(titles, unlike)]
        parts += markdown_syntax.lines("Notes about the numbers", contrast.remarks)
    parts += markdown_syntax.lines(ALONE.capitalize(), [unpaired.said for unpaired in alone])
    parts += ["## How it was judged", markdown_syntax.escape(table.METHOD), "## Definitions"]
    definitions = table.definitions(contrasts)
    parts += [f"- `{name}`: {markdown_syntax.escape(text)}" for name, text in definitions]
    return "\n\n".join(parts) + "\n"


def to_latex(contrasts: Sequence[Contrast], alone: Sequence[UnpairedRow] = ()) -> str:
    """Return booktabs tables: one per contrast, with its sentence as caption, and one of tasks."""
    drawn = []
    for contrast, sentence in zip(contrasts, table.summary(contrasts), strict=True):
        drawn.append(
            latex_tables.table_of(list(table.TITLES), table.rows(contrast), caption=sentence)
        )
        if contrast.tasks:
            caption = f"Accuracy per task. {sentence}"
            drawn.append(
                latex_tables.table_of(
                    list(table.TASK_TITLES), table.task_rows(contrast), caption=caption
                )
            )
    drawn += [rf"\noindent {latex_tables.escape(unpaired.said)}.\par" for unpaired in alone]
    return latex_tables.HEADING + "\n".join(drawn)


def to_csv(contrasts: Sequence[Contrast], alone: Sequence[UnpairedRow] = ()) -> str:
    """Return one unrounded line per metric, and one line per row without a counterpart."""
    lines = [line for contrast in contrasts for line in _plain(contrast)]
    lines += map(_plain_alone, alone)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: in_csv(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _plain(contrast: Contrast) -> list[dict[str, Any]]:
    labels = {"new_row": contrast.new.label, "baseline_row": contrast.baseline.label}
    return [
        {**labels, "setting": contrast.setting, **fields}
        | {"verdict": str(finding.verdict.word), "why": finding.verdict.why}
        | {
            f"{name}_seeds": " ".join(map(str, seeds))
            if METRICS[finding.metric].is_by_seed()
            else ""
            for name, seeds in _seeds(contrast).items()
        }
        for finding, fields in (
            *((finding, asdict(finding)) for finding in contrast.findings),
            *((task.accuracy, _of_task(task)) for task in contrast.tasks),
        )
    ]


def _of_task(task: TaskFinding) -> dict[str, Any]:
    """Return the fields of a task's finding; the metric's name is followed by the task's name."""
    return asdict(task.accuracy) | {"metric": f"{task.accuracy.metric}: {task.task}"}


def _seeds(contrast: Contrast) -> dict[str, Sequence[int]]:
    """Return the seeds with which each row was tested, and the seeds that were compared."""
    seeds = contrast.seeds
    return {"new": seeds.new, "baseline": seeds.baseline, "compared": seeds.both}


def _plain_alone(alone: UnpairedRow) -> dict[str, Any]:
    side = "baseline_row" if alone.of_baseline else "new_row"
    return {side: alone.row.label, "setting": alone.setting, "verdict": ALONE, "why": alone.said}


def to_json(contrasts: Sequence[Contrast], alone: Sequence[UnpairedRow] = ()) -> str:
    """Return everything as JSON with unrounded numbers, including rows without a counterpart."""
    contents = [
        {
            "setting": contrast.setting,
            "new": contrast.new.label,
            "baseline": contrast.baseline.label,
            "records": {
                side: [record.key for record in row.records]
                for side, row in (("new", contrast.new), ("baseline", contrast.baseline))
            },
            "seeds": _seeds(contrast),
            "findings": [asdict(finding) for finding in contrast.findings],
            "tasks": [_of_task(task) for task in contrast.tasks],
            "unlike": [asdict(difference) for difference in contrast.unlike],
            "spreads": [asdict(spread) for spread in contrast.spreads],
            "remarks": list(contrast.remarks),
        }
        for contrast in contrasts
    ]
    contents += map(_whole_alone, alone)
    return json.dumps(contents, indent=1, allow_nan=False) + "\n"


def _whole_alone(alone: UnpairedRow) -> dict[str, Any]:
    sides = {"new": not alone.of_baseline, "baseline": alone.of_baseline}
    keys = [record.key for record in alone.row.records]
    return {
        "setting": alone.setting,
        **{side: alone.row.label if stands else None for side, stands in sides.items()},
        "records": {side: keys if stands else [] for side, stands in sides.items()},
        **{name: [] for name in ("findings", "tasks", "unlike", "spreads")},
        "remarks": [alone.said],
    }


FORMATS: dict[str, Callable[[Sequence[Contrast], Sequence[UnpairedRow]], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
}
