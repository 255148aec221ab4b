"""The command search."""

import os
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsrbench.harness.cli.completion import method_names, suite_names
from bsrbench.harness.cli.printing import say
from bsrbench.harness.cli.results import LOCAL_RESULTS
from bsrbench.harness.cli.running import (
    RunOptions,
    look_for_data_in,
    make_launcher,
    open_store,
    run_trials,
)
from bsrbench.harness.cli.settings import overrides, seconds_of, size_in_bytes
from bsrbench.harness.cli.shared_options import DATA_ROOT, PROGRESS, gathers, with_options
from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import write_whole
from bsrbench.harness.spec.label_grammar import split_at_commas

if TYPE_CHECKING:
    from collections.abc import Callable

    from bsrbench.harness.launch.local_launcher import LocalLauncher
    from bsrbench.harness.predict.step_cost import StepCost
    from bsrbench.harness.records.store import Store
    from bsrbench.harness.records.trial_record import TrialRecord
    from bsrbench.harness.search.search_question import SearchQuestion
    from bsrbench.harness.search.search_space import Space
    from bsrbench.harness.spec.suite import Suite
    from bsrbench.harness.spec.trial_spec import TrialSpec

COSTS, EFFORT, ACCOUNT, SUITE = "costs.json", "effort.json", "search.json", "found.toml"
SHARES = (1 / 3, 1.0, 3.0)  # of the recipe's learning rate, where the suite names none to try


@dataclass(frozen=True)
class WorkloadChanges:
    """What is said of a workload in the place of what a suite says; ``None`` was not said."""

    model: str | None
    weights: str | None
    data: str | None
    image_size: int | None
    batch: int | None


@click.command()
@click.option("--memory", required=True, help="For tensors and workspaces: 512MiB, 2GiB, 4GB.")
@click.option("--time", "time_", default="30min", show_default=True, help="An aim: 90s, 30min, 2h.")
@click.option(
    "--like",
    default="cifar-small",
    show_default=True,
    shell_complete=suite_names,
    help="A suite whose workload and recipe hold, but for what is said here.",
)
@click.option("--model", help="A timm model.")
@click.option("--weights", help="random, timm, a packaged set, or file:NAME below the data root.")
@click.option("--data", help="A data set, pack:FILE.npz or folder:FOLDER below the data root.")
@click.option("--image-size", type=int, help="Pixels.")
@click.option("--batch", type=int, help="Images an optimizer step.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Dotted key, TOML value."
)
@click.option("--method", default="bsr", show_default=True, shell_complete=method_names)
@click.option(
    "--with",
    "companions",
    default="int8,checkpoint",
    show_default=True,
    help="Methods to compose it with, joined by commas; '' for none.",
)
@click.option("--results", type=click.Path(path_type=Path), help="Folder for all that is found.")
@with_options(DATA_ROOT, PROGRESS)
@gathers(WorkloadChanges, "changes")
def search(
    memory: str,
    time_: str,
    like: str,
    settings: tuple[str, ...],
    method: str,
    companions: str,
    results: Path | None,
    data_root: Path | None,
    progress: str,
    changes: WorkloadChanges,
) -> None:
    """Look for settings of a method that need less memory and time at no loss of accuracy.

    Predicts memory and FLOPs of every setting, alone, with companions and in micro-batches; trains
    what may be worth it, on the validation split; measures the best, and writes their account
    (search.md), a figure and a suite (found.toml). The test split is read when that suite is run.
    Asked again, a search goes on where it was.

    \b
    Examples:
      bsrbench search --memory 150MiB --data-root ~/data
      bsrbench search --model deit_small_patch16_224 --weights timm --data cifar10 \\
        --image-size 224 --memory 512MiB --time 2h
    """  # noqa: D301 - click's mark for text that is not wrapped
    look_for_data_in(data_root)
    limit, aim = size_in_bytes("--memory", memory), seconds_of("--time", time_)
    suite = _suite_like(like, settings, changes)
    store = open_store(results or LOCAL_RESULTS / "search")
    store.open_for_writing()
    partners = [name for name in split_at_commas(companions) if name]
    _search(
        store, suite, method, partners, limit, aim, RunOptions(announces=False, progress=progress)
    )


def _search(
    store: "Store",
    suite: "Suite",
    method: str,
    partners: list[str],
    limit: int,
    aim: float,
    run_options: RunOptions,
) -> None:
    """Go through the search and write what it found."""
    from bsrbench.harness.search.candidate_costs import refusals, require_one_that_fits
    from bsrbench.harness.search.search_outcome import account, write_suite
    from bsrbench.harness.search.search_stages import Search
    from bsrbench.reports import units
    from bsrbench.reports.documents import search_page

    space = _space(suite, method, partners)
    launcher = make_launcher()
    costs = _predicted(space, launcher, store)
    for said in refusals(costs.values()):
        _say(said)
    goal = _goal(space, suite, limit)
    require_one_that_fits(space.candidates, costs, goal)
    fitting = [cost for cost in costs.values() if goal.fits(cost)]
    _say(f"{len(fitting)} of {len(costs)} candidates fit into {units.mebibytes(limit)} MiB")
    first = _first(space, goal, fitting, launcher, store, aim)
    goal = replace(goal, first=first)

    def do(trials: "list[TrialSpec]") -> "list[TrialRecord]":
        return run_trials(store, trials, run_options, compared_with=space.published)

    tried = Search(space, costs, goal, do, _say).run()
    found = account(space, costs, goal, tried)
    write_whole(store.folder / ACCOUNT, found.model_dump_json(indent=1) + "\n")
    write_suite(found, store.folder / SUITE)
    for line in search_page.write(found, store.folder):
        say(line)
    say(f"account: {store.folder / 'search.md'}; suite: {store.folder / SUITE}")


def _say(said: str) -> None:
    say(said, err=True)


def _suite_like(name: str, settings: tuple[str, ...], changes: WorkloadChanges) -> "Suite":
    """Return a suite with what was said here in the place of its own.

    Raises:
        BadInput: there is no such suite, or it trains nothing.
    """
    from bsrbench.harness.spec import suite_file

    said = {
        f"--{key.replace('_', '-')}": (f"workload.{key}", value)
        for key, value in asdict(changes).items()
    }
    found = suite_file.read(suite_file.find(name), overrides(settings, said), first_question=True)
    if found.training is None:
        raise BadInput(f"--like {name}: the suite trains nothing, so it has no recipe to take")
    return found


def _space(suite: "Suite", method: str, partners: list[str]) -> "Space":
    """Return all there is to choose from.

    Raises:
        BadInput: the method has nothing to vary, or several at once were named.
    """
    from bsrbench import methods
    from bsrbench.harness.model.vit import blocks
    from bsrbench.harness.search.search_space import make_space
    from bsrbench.harness.spec.trial_spec import Profile
    from bsrbench.harness.workload import models, tasks

    if "+" in method:
        raise BadInput(
            f"--method {method!r}: name one method, and what to compose it with by --with"
        )
    for name in partners:
        methods.load(f"{method}+{name}")
    workload = suite.workloads(suite.questions[0])[0]
    model = models.outline(workload, tasks.classes(workload))
    profile = suite.profile or Profile(rounds=3, steps=3, warmup_steps=1)
    depth = len(blocks(model))
    return make_space(method, methods.load(method), workload, depth, partners, profile)


def _predicted(space: "Space", launcher: "LocalLauncher", store: "Store") -> "dict[str, StepCost]":
    """Predict every candidate that was not predicted before."""
    from rich.console import Console
    from rich.progress import Progress

    from bsrbench.harness.search.candidate_costs import predict_all

    jobs = len(os.sched_getaffinity(0))
    decides = cache(_what_decides(launcher, space.candidates[0].spec))
    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("predicting memory and FLOPs", total=len(space.candidates))
        return predict_all(
            space.candidates,
            launcher.costs,
            decides,
            store.folder / COSTS,
            jobs=jobs,
            tell=lambda done, of: shown.update(task, completed=done, total=of),
        )


def _what_decides(launcher: "LocalLauncher", row: "TrialSpec") -> "Callable[[str], str]":
    """Return what gives, for a method's name, the hashes of all that decides its predictions."""
    from bsrbench import methods
    from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
    from bsrbench.harness.records.record_key import ANY_MACHINE

    present = CurrentConditions.asked(launcher.settings)

    def decides(name: str) -> str:
        key = present.key(row, methods.fingerprint(name), ANY_MACHINE)
        return f"{key.source}-{key.measuring}-{key.settings}"

    return decides


def _goal(space: "Space", suite: "Suite", limit: int) -> "SearchQuestion":
    """Return what is looked for, with the fewest settings to begin with."""
    from bsrbench.harness.search.search_effort import LEAST
    from bsrbench.harness.search.search_question import SearchQuestion
    from bsrbench.harness.spec.recipe import Recipe

    question = suite.questions[0]
    recipe = Recipe(**suite.recipe(question))
    rows = [row for row in suite.methods if row.method == space.method]
    rows.sort(key=lambda row: not row.label(suite.workload).is_plain())  # the plain row's, if any
    rates = question.to_try or next((row.to_try for row in rows), ())
    rates = rates or tuple(share * recipe.learning_rate for share in SHARES)
    return SearchQuestion(recipe, rates, suite.seeds, limit, first=LEAST)


def _first(
    space: "Space",
    goal: "SearchQuestion",
    fitting: "list[StepCost]",
    launcher: "LocalLauncher",
    store: "Store",
    aim: float,
) -> int:
    """Return how many settings to begin with, and say how long all will take."""
    from bsrbench.harness.search.search_effort import first_settings, remembered
    from bsrbench.harness.search.search_question import training_of
    from bsrbench.harness.trial.trial_passes import SPEED

    row = space.candidates[0].spec

    def decide() -> int:
        trained = training_of(row, goal.recipe, goal.rates[0], 0)
        checked, tried = launcher.check(trained), launcher.perform(SPEED, row)
        for result in (checked, tried):
            if result.status != "completed":
                raise BadInput(result.reason)
        speed = tried.readings().speed
        if speed is None:
            raise BadInput("the device's speed was not read")
        images = checked.images["validation"]
        return first_settings(goal, row.workload, fitting, images, speed.flop_per_second, aim)

    question = {
        "rows": [candidate.spec.row_id() for candidate in space.candidates],
        "quest": asdict(goal) | {"recipe": goal.recipe.model_dump(mode="json")},
        "seconds": aim,
    }
    first = remembered(store.folder / EFFORT, question, decide)
    _say(f"{first} settings will be trained at first, and as many neighbours of the best")
    return first
