"""Commands over suites and results: run, tune, report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.exits import FAILED
from harness.cli.running import open_store, run_trials
from harness.cli.settings import setting
from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.record import TrialRecord
    from harness.spec import LearningRateTry
    from harness.store import Store
    from harness.suite import Suite

LOCAL_RESULTS = Path("results") / "local"


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
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds a pass may take."
)
def run(
    suite: str,
    results: Path | None,
    methods: str | None,
    seeds: int | None,
    settings: tuple[str, ...],
    again: bool,
    timeout: float | None,
) -> None:
    """Run a suite's missing trials, then write and print its report.

    SUITE is a name ('bsrbench list suites') or a .toml file. Records go into
    results/local/SUITE unless --results says otherwise.
    """
    path, chosen = _read_suite(suite, settings, seeds)
    if methods is not None:
        chosen = chosen.choose([name.strip() for name in methods.split(",")])
    store = open_store(results or LOCAL_RESULTS / path.stem)
    records = run_trials(store, chosen.trials(), timeout, again=again)
    _report(store, path.stem)
    if any(record.outcome.status != "completed" for record in records):
        sys.exit(FAILED)


@click.command()
@click.argument("suite")
@click.option("--results", type=click.Path(path_type=Path), help="Folder for the tries' records.")
@click.option("--seed", type=click.IntRange(min=0), default=1000, show_default=True)
def tune(suite: str, results: Path | None, seed: int) -> None:
    """Try the learning rates of every row and write the best into the suite file.

    Each row gets the same number of tries ('to_try'). They are read on the validation split, with
    a seed of their own.
    """
    from harness.suite import best_try, write_choices

    path, chosen = _read_suite(suite, (), None)
    store = open_store(results or LOCAL_RESULTS / path.stem)
    trials = [chosen.tuning_trials(row, seed) for row in chosen.methods]
    records = iter(run_trials(store, [spec for row in trials for spec in row], None, again=False))
    tries = [[_as_try(next(records)) for _ in row] for row in trials]
    write_choices(path, tries)
    for row, tried in zip(trials, tries, strict=True):
        said = ", ".join(f"{t.learning_rate:g}: {t.validation_accuracy}" for t in tried)
        click.echo(f"{row[0].label()}: chose {best_try(tried):g} of {said}")


def _as_try(record: "TrialRecord") -> "LearningRateTry":
    """Return what a tuning trial found; one that did not complete has no accuracy."""
    from harness.spec import LearningRateTry

    accuracy = record.measurements["validation_accuracy_top1"]
    return LearningRateTry(
        learning_rate=record.spec.training.learning_rate if record.spec.training else 0,
        validation_accuracy=accuracy if isinstance(accuracy, float) else None,
    )


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
def report(results: Path) -> None:
    """Make the documents of a results folder again from its records."""
    if not (results / "records").is_dir():
        raise BadInput(f"no folder {str(results / 'records')!r}; expected one that 'run' made")
    _report(open_store(results), results.resolve().name)


def _read_suite(name: str, settings: tuple[str, ...], seeds: int | None) -> "tuple[Path, Suite]":
    from harness import suite

    overrides = dict(setting(text) for text in settings)
    if seeds is not None:
        overrides["seeds"] = list(range(seeds))
    path = suite.find(name)
    return path, suite.read(path, overrides)


def _report(store: "Store", title: str) -> None:
    from rich.console import Console

    from reports import terminal, write

    records, aside = store.records()
    for reason in aside:
        click.echo(f"set aside: {reason}", err=True)
    comparisons = write.write(records, store.folder, f"bsrbench: {title}", store.detail)
    terminal.show(comparisons, Console())
    click.echo(f"report: {store.folder / 'report.html'}")
