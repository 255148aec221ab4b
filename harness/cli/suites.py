"""Commands on suites: run, tune."""

import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsrbench.harness.cli.availability import load_methods
from bsrbench.harness.cli.completion import method_names, suite_names
from bsrbench.harness.cli.exits import FAILED
from bsrbench.harness.cli.goals import check_goals, report_goals
from bsrbench.harness.cli.printing import say
from bsrbench.harness.cli.results import LOCAL_RESULTS, make_report
from bsrbench.harness.cli.running import (
    LauncherOptions,
    RunOptions,
    look_for_data_in,
    open_store,
    run_trials,
)
from bsrbench.harness.cli.settings import overrides
from bsrbench.harness.cli.shared_options import (
    CLUSTER_OPTIONS,
    DATA_ROOT,
    DEVICE,
    JOBS,
    LIMIT_OPTIONS,
    PROGRESS,
    RUN_OPTIONS,
    TRUST,
    gathers,
    with_options,
)
from bsrbench.harness.errors import BadInput

if TYPE_CHECKING:
    from bsrbench.harness.records.trial_record import TrialRecord
    from bsrbench.harness.spec.recipe import LearningRateTry
    from bsrbench.harness.spec.suite import Suite
    from bsrbench.harness.spec.trial_spec import TrialSpec


@click.command()
@click.argument("suite", shell_complete=suite_names)
@click.option("--results", type=click.Path(path_type=Path), help="Folder for records and report.")
@click.option(
    "--methods",
    shell_complete=method_names,
    help="Run only the rows with these labels, separated by commas. 'full' is the row without "
    "options; 'full*' is every row that begins with 'full'. A method that is not in the suite "
    "runs with its defaults.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 10_000), help="Number N of seeds: train with 0 to N-1."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a dotted key of the suite to a TOML value; can be repeated.",
)
@with_options(DEVICE, DATA_ROOT, TRUST, *RUN_OPTIONS, *LIMIT_OPTIONS, *CLUSTER_OPTIONS)
@gathers(RunOptions, "run_options")
def run(
    suite: str,
    results: Path | None,
    methods: str | None,
    seeds: int | None,
    settings: tuple[str, ...],
    device: str | None,
    data_root: Path | None,
    trust: tuple[str, ...],
    launcher: str,
    address: str | None,
    label: str,
    run_options: RunOptions,
) -> None:
    """Run a suite's missing trials, then write and print its report.

    SUITE is a name ('bsrbench list suites') or a .toml file. The default results folder is
    results/local/SUITE.

    \b
    Examples:
      bsrbench run quick
      bsrbench run quick --methods full,bsr --set training.steps=20 --dry-run
      bsrbench run cifar-small --data-root ~/data --timeout 600
      bsrbench run quick --device cuda
    """  # noqa: D301 - click's mark for text that is not wrapped
    look_for_data_in(data_root)
    path, whole = _read_suite(suite, settings, device, seeds)
    check_goals(whole)
    trials = _chosen(path, whole, methods, trust)
    store = open_store(results or LOCAL_RESULTS / path.stem)
    asked = replace(run_options, trusted=trust)
    where = LauncherOptions(launcher, address, label)
    records = run_trials(store, trials, asked, where)
    if asked.dry:
        return
    make_report(store.folder, path.stem)
    if whole.goals:
        report_goals(whole, store.folder, path.stem)
    if any(record.outcome.status != "completed" for record in records):
        sys.exit(FAILED)


@click.command()
@click.argument("suite", shell_complete=suite_names)
@click.option("--results", type=click.Path(path_type=Path), help="Folder for the records.")
@click.option("--seed", type=click.IntRange(min=0, max=2**63 - 1), default=1000, show_default=True)
@with_options(DEVICE, DATA_ROOT, TRUST, JOBS, PROGRESS, *LIMIT_OPTIONS)
@gathers(RunOptions, "run_options")
def tune(
    suite: str,
    results: Path | None,
    seed: int,
    device: str | None,
    data_root: Path | None,
    trust: tuple[str, ...],
    run_options: RunOptions,
) -> None:
    """Try the learning rates of every row and write the best ones into the suite file.

    Every row tries the same number of learning rates ('to_try'). They are compared by their
    accuracy on the validation split. --seed is the seed of these trainings. --device does not
    change the device in the suite file.

    \b
    Examples:
      bsrbench tune suites/mine.toml
      bsrbench tune cifar-small --data-root ~/data
      bsrbench tune cifar-small --data-root ~/data --device cuda
    """  # noqa: D301 - click's mark for text that is not wrapped
    from bsrbench.harness.spec.labels_apart import labels_apart
    from bsrbench.harness.spec.suite_file import best_try, write_choices

    look_for_data_in(data_root)
    path, chosen = _read_suite(suite, (), device, None)
    _require_named(path, [row.method for row in chosen.methods], set(trust))
    store = open_store(results or LOCAL_RESULTS / path.stem)
    trials = [
        [chosen.tuning_trials(question, row, seed) for row in chosen.trained_rows(question)]
        for question in chosen.questions
    ]
    planned = [spec for rows in trials for row in rows for spec in row]
    records = iter(run_trials(store, planned, run_options))
    tries = [[[_as_try(next(records)) for _ in row] for row in rows] for rows in trials]
    for rows, tried_rows in zip(trials, tries, strict=True):
        for row, tried in zip(rows, tried_rows, strict=True):
            if all(rate_try.validation_accuracy is None for rate_try in tried):
                raise BadInput(
                    f"no training of {row[0].label()} on {row[0].workload.data_name()} completed, "
                    f"so no learning rate can be chosen: {path} was not changed; the records in "
                    f"{store.folder} give the reasons"
                )
    write_choices(path, chosen, tries)
    for rows, tried_rows in zip(trials, tries, strict=True):
        labels = labels_apart([row[0] for row in rows])
        for label, row, tried in zip(labels, rows, tried_rows, strict=True):
            listed = ", ".join(f"{t.learning_rate:g}: {t.validation_accuracy}" for t in tried)
            name = f"{label} on {row[0].workload.data_name()}" if len(trials) > 1 else label
            say(f"{name}: chose {best_try(tried):g} of {listed}")


def _chosen(
    path: Path, whole: "Suite", requested: str | None, trust: tuple[str, ...]
) -> "list[TrialSpec]":
    """Return the trials of the requested rows; print how an inexact row name was understood."""
    from bsrbench.harness.spec.label_grammar import split_at_commas
    from bsrbench.harness.spec.row_choice import label_of
    from bsrbench.harness.spec.suite_choice import choose

    if requested is None:
        _require_named(path, [row.method for row in whole.methods], set(trust))
        return whole.trials()
    names = split_at_commas(requested)
    choice = choose(whole, names)
    trials = list(choice.trials)
    methods = {label.method for name in names if (label := label_of(name))}
    _require_named(path, [trial.method for trial in trials], {*trust, *names, *methods})
    if choice.said:
        load_methods(trials)  # an unknown method raises an error before anything is printed
    for line in choice.said:
        say(line, err=True)
    return trials


def _require_named(path: Path, methods: Iterable[str], named: set[str]) -> None:
    """Check that the user allows every method file that a suite names.

    A suite may come from somebody else, so its method files run only with --trust.

    Raises:
        BadInput: a row's method is a file that was not named on the command line.
    """
    for method in methods:
        if ".py" in method and method not in named:
            raise BadInput(
                f"{path} names the file {method!r} as a method, and a file named only by a suite "
                f"is not run: read the file, then add --trust {shlex.quote(method)}"
            )


def _as_try(record: "TrialRecord") -> "LearningRateTry":
    """Return the learning rate and accuracy of a tuning trial; no accuracy if it failed."""
    from bsrbench.harness.spec.recipe import LearningRateTry

    accuracy = record.measurements["validation_accuracy_top1"]
    return LearningRateTry(
        learning_rate=record.spec.training.learning_rate if record.spec.training else 0,
        validation_accuracy=accuracy if isinstance(accuracy, float) else None,
    )


def _read_suite(
    name: str, settings: tuple[str, ...], device: str | None, seeds: int | None
) -> "tuple[Path, Suite]":
    from bsrbench.harness.spec import suite_file

    by_option = {
        "--device": ("workload.device", device),
        "--seeds": ("seeds", None if seeds is None else list(range(seeds))),
    }
    path = suite_file.find(name)
    return path, suite_file.read(path, overrides(settings, by_option))
