"""Commands over suites: run, tune."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.exits import FAILED
from harness.cli.results import LOCAL_RESULTS, make_report
from harness.cli.running import look_for_data_in, open_store, run_trials
from harness.cli.settings import setting

if TYPE_CHECKING:
    from harness.record import TrialRecord
    from harness.spec import LearningRateTry
    from harness.suite import Suite


@click.command()
@click.argument("suite")
@click.option("--results", type=click.Path(path_type=Path), help="Folder for records and report.")
@click.option(
    "--methods", help="Only these rows, joined by commas; others get the suite's defaults."
)
@click.option("--seeds", type=click.IntRange(min=1), help="Train with seeds 0 to N-1.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Dotted key, TOML value."
)
@click.option("--again", is_flag=True, help="Run trials that are stored already, too.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of data sets and weights; BSRBENCH_DATA or ./data unless said.",
)
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    help="How much of a long training a kill may lose.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds a pass may take."
)
def run(
    suite: str,
    results: Path | None,
    methods: str | None,
    seeds: int | None,
    settings: tuple[str, ...],
    again: bool,
    data_root: Path | None,
    checkpoint_seconds: float,
    timeout: float | None,
) -> None:
    """Run a suite's missing trials, then write and print its report.

    SUITE is a name ('bsrbench list suites') or a .toml file. Records go into
    results/local/SUITE unless --results says otherwise.
    """
    look_for_data_in(data_root)
    path, chosen = _read_suite(suite, settings, seeds)
    if methods is not None:
        chosen = chosen.choose([name.strip() for name in methods.split(",")])
    store = open_store(results or LOCAL_RESULTS / path.stem)
    records = run_trials(
        store, chosen.trials(), timeout, again=again, checkpoint_seconds=checkpoint_seconds
    )
    make_report(store.folder, path.stem)
    if any(record.outcome.status != "completed" for record in records):
        sys.exit(FAILED)


@click.command()
@click.argument("suite")
@click.option("--results", type=click.Path(path_type=Path), help="Folder for the tries' records.")
@click.option("--seed", type=click.IntRange(min=0), default=1000, show_default=True)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of data sets and weights; BSRBENCH_DATA or ./data unless said.",
)
def tune(suite: str, results: Path | None, seed: int, data_root: Path | None) -> None:
    """Try the learning rates of every row and write the best into the suite file.

    Each row gets the same number of tries ('to_try'). They are read on the validation split, with
    a seed of their own.
    """
    from harness.suite import best_try, write_choices

    look_for_data_in(data_root)
    path, chosen = _read_suite(suite, (), None)
    store = open_store(results or LOCAL_RESULTS / path.stem)
    trials = [
        [chosen.tuning_trials(question, row, seed) for row in chosen.methods]
        for question in chosen.questions
    ]
    planned = [spec for rows in trials for row in rows for spec in row]
    records = iter(run_trials(store, planned, None, again=False))
    tries = [[[_as_try(next(records)) for _ in row] for row in rows] for rows in trials]
    write_choices(path, chosen, tries)
    for rows, tried_rows in zip(trials, tries, strict=True):
        for row, tried in zip(rows, tried_rows, strict=True):
            said = ", ".join(f"{t.learning_rate:g}: {t.validation_accuracy}" for t in tried)
            name = row[0].label() + (f" on {row[0].workload.data}" if len(trials) > 1 else "")
            click.echo(f"{name}: chose {best_try(tried):g} of {said}")


def _as_try(record: "TrialRecord") -> "LearningRateTry":
    """Return what a tuning trial found; one that did not complete has no accuracy."""
    from harness.spec import LearningRateTry

    accuracy = record.measurements["validation_accuracy_top1"]
    return LearningRateTry(
        learning_rate=record.spec.training.learning_rate if record.spec.training else 0,
        validation_accuracy=accuracy if isinstance(accuracy, float) else None,
    )


def _read_suite(name: str, settings: tuple[str, ...], seeds: int | None) -> "tuple[Path, Suite]":
    from harness import suite

    overrides = dict(setting(text) for text in settings)
    if seeds is not None:
        overrides["seeds"] = list(range(seeds))
    path = suite.find(name)
    return path, suite.read(path, overrides)
