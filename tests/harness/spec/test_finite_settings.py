"""Every setting that is a number is finite, wherever it is given: JSON has no infinity."""

import dataclasses
import json
import math
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from bsrbench import methods
from bsrbench.harness.cli import main
from bsrbench.harness.cli.settings import MOST, Seconds, seconds_of, size_in_bytes
from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.frozen_data import FromFile, Frozen
from bsrbench.harness.spec.multitask import MultiTask
from bsrbench.harness.spec.optimizer_options import OptimizerOptions
from bsrbench.harness.spec.recipe import LearningRateTry, Recipe, Training
from bsrbench.harness.spec.search_result import SearchResult
from bsrbench.harness.spec.suite import Suite
from bsrbench.harness.spec.suite_goal import Goal
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.suite_question import LearningRateChoice, Question
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload

NOT_FINITE = (math.inf, -math.inf, math.nan)
SETTINGS = (Suite, SuiteMethod, Question, LearningRateChoice, Recipe, Training, LearningRateTry)
SETTINGS += (Workload, MultiTask, OptimizerOptions, Profile, TrialSpec, Goal)


def holds_float(annotation):
    """Tell whether a float may stand somewhere in a value of this type."""
    if annotation is float:
        return True
    if get_origin(annotation) in {Annotated, Union, UnionType, tuple, list}:
        return any(holds_float(part) for part in get_args(annotation))
    return False


def in_its_place(annotation, number):
    """Return a value of this type with the number in it."""
    parts = [part for part in get_args(annotation) if part not in {type(None), Ellipsis}]
    if get_origin(annotation) in {tuple, list}:
        return [number] * (1 if Ellipsis in get_args(annotation) else len(parts))
    floats = [part for part in parts if holds_float(part)]
    return in_its_place(floats[0], number) if floats else number


FLOATS = [
    (kind, name)
    for kind in SETTINGS
    for name, field in kind.model_fields.items()
    if holds_float(field.annotation)
]


def test_every_kind_of_setting_is_looked_at():
    """A new one, and a new field that is a float, is looked at unasked."""
    kinds = {
        k
        for k in Frozen.__subclasses__()
        if k.__module__ not in ("bsrbench.harness.records.trial_record", SearchResult.__module__)
        and k is not FromFile
    }

    assert kinds | {Training} == set(SETTINGS)
    assert len(FLOATS) >= 15
    assert (Profile, "budget_seconds") in FLOATS


@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize(("kind", "name"), FLOATS)
def test_a_setting_that_is_not_finite_is_refused(kind, name, number):
    value = in_its_place(kind.model_fields[name].annotation, number)
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({name: value})

    places = {error["loc"][0]: error["type"] for error in caught.value.errors()}
    assert places[name] in {
        "finite_number",
        "greater_than",
        "greater_than_equal",
        "less_than_equal",
        "less_than",
    }


@pytest.mark.parametrize("number", ["inf", "nan", "-inf"])
def test_a_suite_names_the_setting(number, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'seeds = [0]\n[workload]\nmodel = "test_vit"\nbatch = 2\n'
        f'[profile]\nbudget_seconds = {number}\n[[methods]]\nmethod = "head"\n'
    )
    ended = CliRunner().invoke(main, ["run", str(path), "--dry-run", "--results", str(tmp_path)])

    assert ended.exit_code == 2
    assert f"profile.budget_seconds = {number}: should be a finite number" in ended.stderr


WITH_OPTIONS = [name for name in methods.names() if dataclasses.fields(methods.find(name))]


@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_a_method_s_option_that_is_not_finite_is_refused(name, number):
    option = dataclasses.fields(methods.find(name))[0].name
    for value in (number, [number]):
        with pytest.raises(BadInput, match=f"options of '{name}' must be finite numbers, got"):
            methods.load(name, **{option: value})


def options_of(command):
    """Yield every option of a command and of those below it."""
    for below in getattr(command, "commands", {}).values():
        yield from options_of(below)
    yield from ((command.name, option) for option in command.params)


def test_every_option_that_is_a_number_with_a_point_is_a_time():
    """Whoever adds another kind decides what infinity means for it."""
    floats = [
        option
        for _, option in options_of(main)
        if isinstance(option.type, (click.FloatRange, click.types.FloatParamType))
    ]

    assert len(floats) >= 3
    assert all(isinstance(option.type, Seconds) for option in floats)


@pytest.mark.parametrize("number", ["inf", "nan", "1e300", "-1", "1e999"])
@pytest.mark.parametrize("option", ["--timeout", "--checkpoint-seconds"])
def test_a_time_that_is_none_is_refused(option, number):
    ended = CliRunner().invoke(main, ["run", "quick", option, number, "--dry-run"])

    assert ended.exit_code == 2
    assert f"Invalid value for '{option}'" in ended.stderr


@pytest.mark.parametrize(
    "text", ["inf", "infMiB", "nanGB", "9" * 400 + "MiB", "1e400GB", "2PiB", "-1MB", "٣GB"]
)
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(BadInput, match=r"--memory .{1,90}: expected a size like 512MiB"):
        size_in_bytes("--memory", text)


@pytest.mark.parametrize("text", ["inf", "infs", "nanh", "9" * 400 + "h", "0s"])
def test_a_duration_that_is_none_is_refused(text):
    with pytest.raises(BadInput, match=r"--time .{1,90}: expected a time like 90s"):
        seconds_of("--time", text)


def test_the_largest_sizes_and_times_that_are_taken_are_ones_the_system_takes():
    assert size_in_bytes("--memory", "900000GiB") == 900_000 * 2**30 < MOST < 2**63
    assert seconds_of("--time", "100000h") == 360_000_000.0
    assert json.dumps(MOST) == "1000000000000000.0"
