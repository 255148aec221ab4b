"""The search command."""

import os
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsrbench.harness.cli.availability import require_devices
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
from bsrbench.harness.cli.shared_options import DATA_ROOT, DEVICE, PROGRESS, gathers, with_options
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
    from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload

COSTS, EFFORT, ACCOUNT, SUITE = "costs.json", "effort.json", "search.json", "found.toml"


@dataclass(frozen=True)
class WorkloadChanges:
    """Options that replace a suite's workload settings; ``None`` keeps the suite's setting."""

    model: str | None
    weights: str | None
    data: str | None
    image_size: int | None
    batch: int | None
    device: str | None


@click.command()
@click.option("--memory", required=True, help="Limit for tensors and workspaces: 512MiB, 2GiB.")
@click.option("--time", "time_", default="30min", show_default=True, help="Target time: 90s, 2h.")
@click.option(
    "--like",
    default="cifar-small",
    show_default=True,
    shell_complete=suite_names,
    help="Suite to take the workload and recipe from; other options override it.",
)
@click.option("--model", help="A timm model.")
@click.option("--weights", help="random, timm, a packaged set, or file:NAME in the data root.")
@click.option("--data", help="A data set, or pack:FILE.npz or folder:FOLDER in the data root.")
@click.option("--image-size", type=int, help="Side of the image in pixels.")
@click.option("--batch", type=int, help="Images per optimizer step.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A suite key and a TOML value."
)
@click.option("--method", default="bsr", show_default=True, shell_complete=method_names)
@click.option(
    "--with",
    "companions",
    default="int8,checkpoint",
    show_default=True,
    help="Methods to compose the method with, separated by commas; '' for none.",
)
@click.option(
    "--optimizers",
    default="",
    help="Optimizers to choose from besides the suite's: adamw8,lion,'galore rank=64'.",
)
@click.option("--results", type=click.Path(path_type=Path), help="Folder for all results.")
@with_options(DEVICE, DATA_ROOT, PROGRESS)
@gathers(WorkloadChanges, "changes")
def search(
    memory: str,
    time_: str,
    like: str,
    settings: tuple[str, ...],
    method: str,
    companions: str,
    optimizers: str,
    results: Path | None,
    data_root: Path | None,
    progress: str,
    changes: WorkloadChanges,
) -> None:
    """Search for settings of a method that need less memory and time without losing accuracy.

    The search first predicts memory and FLOPs of every setting: alone, composed with the methods
    of --with, with micro-batches, and with every optimizer. It trains the promising settings and
    compares them on the validation split. It then measures the best ones and writes a report
    (search.md), a figure and a suite (found.toml). Only running that suite reads the test split. If
    the same command is run again, the search resumes.

    \b
    Examples:
      bsrbench search --memory 150MiB --data-root ~/data
      bsrbench search --memory 250MiB --method full --optimizers adamw8,lion --data-root ~/data
      bsrbench search --model deit_small_patch16_224 --weights timm --data cifar10 \\
        --image-size 224 --memory 512MiB --time 2h
    """  # noqa: D301 - click's mark for text that is not wrapped
    look_for_data_in(data_root)
    limit, aim = size_in_bytes("--memory", memory), seconds_of("--time", time_)
    suite = _suite_like(like, settings, changes)
    require_devices([suite.workload.device])
    store = open_store(results or LOCAL_RESULTS / "search")
    store.open_for_writing()
    partners, others = (list(filter(None, split_at_commas(t))) for t in (companions, optimizers))
    _search(store, suite, method, partners, others, limit, aim, progress)


def _search(
    store: "Store",
    suite: "Suite",
    method: str,
    partners: list[str],
    optimizers: list[str],
    limit: int,
    aim: float,
    progress: str,
) -> None:
    """Run all stages of the search and write its results."""
    from bsrbench.harness.launch.planning.row_checks import CheckedRows
    from bsrbench.harness.search.candidate_costs import refusals, require_one_that_fits
    from bsrbench.harness.search.question_of_suite import question_of
    from bsrbench.harness.search.search_outcome import account, write_suite
    from bsrbench.harness.search.search_stages import Search
    from bsrbench.harness.search.searched_optimizers import workloads_with
    from bsrbench.reports import units
    from bsrbench.reports.documents import search_page

    workloads = workloads_with(suite.workloads(suite.questions[0])[0], optimizers)
    space = _space(workloads, suite.profile, method, partners)
    launcher = make_launcher()
    costs = _predicted(space, launcher, store)
    for line in refusals(costs.values()):
        _say(line)
    goal = question_of(suite, method, workloads, limit)
    require_one_that_fits(space.candidates, costs, goal)
    fitting = [cost for cost in costs.values() if goal.fits(cost)]
    _say(f"{len(fitting)} of {len(costs)} candidates fit in {units.mebibytes(limit)} MiB")
    goal = replace(goal, first=_first(space, goal, fitting, launcher, store, aim))
    run_options = RunOptions(announces=False, progress=progress, checked=CheckedRows())

    def do(trials: "list[TrialSpec]") -> "list[TrialRecord]":
        return run_trials(store, trials, run_options, compared_with=space.published)

    tried = Search(space, costs, goal, do, _say).run()
    result = account(space, costs, goal, tried)
    write_whole(store.folder / ACCOUNT, result.model_dump_json(indent=1) + "\n")
    write_suite(result, store.folder / SUITE)
    for line in search_page.write(result, store.folder):
        say(line)
    say(f"report: {store.folder / 'search.md'}; suite: {store.folder / SUITE}")


def _say(line: str) -> None:
    say(line, err=True)


def _suite_like(name: str, settings: tuple[str, ...], changes: WorkloadChanges) -> "Suite":
    """Return a suite with the given changes.

    Raises:
        BadInput: there is no such suite, or it trains nothing.
    """
    from bsrbench.harness.spec import suite_file

    changed_keys = {
        f"--{key.replace('_', '-')}": (f"workload.{key}", value)
        for key, value in asdict(changes).items()
    }
    changed = overrides(settings, changed_keys)
    suite = suite_file.read(suite_file.find(name), changed, first_question=True)
    if suite.training is None:
        raise BadInput(
            f"--like {name}: this suite has no [training] table, so it has no recipe to use: name "
            "a suite that trains"
        )
    return suite


def _space(
    workloads: "list[Workload]", profile: "Profile | None", method: str, partners: list[str]
) -> "Space":
    """Return all candidates of the search.

    Raises:
        BadInput: the method has no settings to search, or several methods were given.
    """
    from bsrbench import methods
    from bsrbench.harness.model.vit import blocks
    from bsrbench.harness.search.search_space import make_space
    from bsrbench.harness.spec.trial_spec import Profile
    from bsrbench.harness.workload import models, tasks

    if "+" in method:
        raise BadInput(
            f"--method {method!r}: expected one method; name the methods to compose it with in "
            "--with"
        )
    for name in partners:
        methods.load(f"{method}+{name}")
    depth = len(blocks(models.outline(workloads[0], tasks.classes(workloads[0]))))
    profile = profile or Profile(rounds=3, warmup_steps=1)
    return make_space(method, methods.load(method), workloads, depth, partners, profile)


def _predicted(space: "Space", launcher: "LocalLauncher", store: "Store") -> "dict[str, StepCost]":
    """Return the cost of every candidate; predict those that have no stored prediction."""
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
    """Return a function: method name -> hashes of everything that its predictions depend on."""
    from bsrbench import methods
    from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
    from bsrbench.harness.records.record_key import ANY_MACHINE

    present = CurrentConditions.asked(launcher.settings)

    def decides(name: str) -> str:
        key = present.key(row, methods.fingerprint(name), ANY_MACHINE)
        return f"{key.source}-{key.measuring}-{key.settings}"

    return decides


def _first(
    space: "Space",
    goal: "SearchQuestion",
    fitting: "list[StepCost]",
    launcher: "LocalLauncher",
    store: "Store",
    aim: float,
) -> int:
    """Return how many settings are trained first, so that the search takes about ``aim``."""
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
            raise BadInput("the speed of the device could not be measured")
        images = checked.images["validation"]
        return first_settings(goal, row.workload, fitting, images, speed.flop_per_second, aim)

    question = {
        "rows": [candidate.spec.row_id() for candidate in space.candidates],
        "quest": asdict(goal) | {"recipe": goal.recipe.model_dump(mode="json")},
        "seconds": aim,
    }
    first = remembered(store.folder / EFFORT, question, decide)
    _say(f"{first} settings are trained first, then at most as many neighbours of the best ones")
    return first
