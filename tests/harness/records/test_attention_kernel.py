"""Records state which operators computed attention, whatever they measure; compare prints it."""

import json
import shutil

import pytest
import timm.layers

from bsrbench import methods
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.progress import Quiet
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.records.attention_kernel import NONE_FUSED, PRODUCTS, described
from bsrbench.harness.records.store import Store, gather
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.reports.compare.contrast import contrast
from bsrbench.reports.compare.matching import match
from tests.trial_records import as_schema_7

FLASH = "aten._scaled_dot_product_flash_attention_for_cpu"
RECIPE = Training(steps=1, learning_rate=1e-3)
PREDICTED = Profile(rounds=0, only_predict=True)
UNTIMED = Profile(rounds=0)
TWO_TASKS = {"multitask": {"tasks": ("digits", "noise"), "expert_blocks": ()}}


@pytest.fixture
def fused():
    """Return what lets timm fuse attention, or not; afterwards it does again."""
    yield timm.layers.set_fused_attn
    timm.layers.set_fused_attn(True)


@pytest.fixture
def measure(tmp_path, fused):
    """Return what measures a trial into a folder, with attention fused or not."""

    def measure(folder, spec, *, fuse):
        fused(fuse)
        launcher, store = InlineLauncher(methods.load), Store(tmp_path / folder)
        run_settings = RunSettings(announces=False)
        (record,) = Runner(launcher, store, methods.fingerprint, Quiet(), run_settings).run([spec])
        return record

    return measure


@pytest.mark.parametrize(
    ("operators", "words"),
    [
        ([], NONE_FUSED),
        (["aten.bmm", "aten._softmax"], NONE_FUSED),
        ([FLASH, f"{FLASH}_backward", "aten.mm"], FLASH),
        (["b.attention", "a.attention"], "a.attention, b.attention"),
    ],
)
def test_a_kernel_is_what_ran_forward(operators, words):
    assert described(operators) == words


# What runs where timm fuses nothing: blocks of ``bsr`` that rank tokens, and all of ``int8``, have
# an attention of their own, which is fused.
MIXED = f"{FLASH}, {PRODUCTS}"
UNFUSED = {"bsr": MIXED, "bsr+checkpoint": MIXED, "lora+int8": FLASH}


@pytest.mark.parametrize("method", ["full", "bsr", "bsr+checkpoint", "lora+int8"])
@pytest.mark.parametrize(
    "parts",
    [{"profile": UNTIMED}, {"profile": PREDICTED}, {"training": RECIPE}],
    ids=["profile", "prediction", "training"],
)
def test_every_record_states_the_kernel(parts, method, make_six_spec, measure):
    spec = make_six_spec(method, **parts)
    found = {
        fuse: measure("results", spec, fuse=fuse).environment.attention_kernel
        for fuse in (True, False)
    }

    assert found == {True: FLASH, False: UNFUSED.get(method, NONE_FUSED)}


def test_several_tasks_state_one(make_spec, measure):
    spec = make_spec(training=RECIPE, classes=None, image_size=32, **TWO_TASKS)

    assert measure("results", spec, fuse=True).environment.attention_kernel == FLASH


def test_a_training_sees_the_kernel_of_the_whole_step(make_six_spec, fused):
    """Seen once, in a forward pass when all is read; the FLOP pass sees every operator."""
    fused(True)
    seen = training_pass(make_six_spec("bsr", training=RECIPE), methods.load)
    whole = flop_pass(make_six_spec("bsr", profile=UNTIMED), methods.load)

    assert seen.attention_kernel == whole.attention_kernel


def test_looking_changes_nothing_that_is_read(make_six_spec, monkeypatch):
    spec = make_six_spec("full", training=RECIPE)
    seen = training_pass(spec, methods.load)
    monkeypatch.setattr(
        "bsrbench.harness.profiler.training_pass.attention_kernel", lambda *_: "not looked"
    )
    unseen = training_pass(spec, methods.load)

    assert seen.measurements["accuracy_top1"] == unseen.measurements["accuracy_top1"]
    assert seen.measurements["final_loss"] == unseen.measurements["final_loss"]


@pytest.fixture
def compared(tmp_path):
    """Return what compares two folders and gives all that is unlike in them."""

    def compare(one, other):
        pool = gather([])
        matched = match(str(tmp_path / one), str(tmp_path / other), pool, even_unlike=True)
        found = contrast(matched.pairs, pool.detail)
        return {unlike.name: (unlike.new, unlike.baseline) for unlike in found[0].unlike}

    return compare


@pytest.mark.parametrize("method", ["full", "bsr+checkpoint"])
@pytest.mark.parametrize(
    "parts", [{"profile": UNTIMED}, {"training": RECIPE}], ids=["profile", "training"]
)
def test_compare_prints_the_kernel_and_the_setting(parts, method, make_six_spec, measure, compared):
    spec = make_six_spec(method, **parts)
    measure("unfused", spec, fuse=False)
    measure("fused", spec, fuse=True)

    assert compared("unfused", "fused") == {
        "attention kernel": (UNFUSED.get(method, NONE_FUSED), FLASH),
        "environment.settings.TIMM_FUSED_ATTN": ("0", "1"),
    }


def aged(folder, kernels):
    """Make a folder's record one of schema 5, with the sidecar of a FLOP pass or without."""
    (path,) = (folder / "records").glob("*.json")
    method, trial, source, *_, machine = path.stem.split("-")
    old = f"{method}-{trial}-{source}-{machine}"
    record = as_schema_7(json.loads(path.read_text()))
    for name in ("settings", "circumstances", "attention_kernel", "passes_seconds"):
        record["environment"].pop(name, None)
    for name in ("began_at", "beside"):
        del record[name]
    path.with_name(f"{old}.json").write_text(json.dumps(record | {"key": old, "schema_version": 5}))
    path.unlink()
    shutil.rmtree(folder / "details", ignore_errors=True)
    if kernels:
        (folder / "details").mkdir()
        detail = {"flops": {"by_operator": dict.fromkeys(kernels, 1)}}
        (folder / "details" / f"{old}.json").write_text(json.dumps(detail))


def test_old_records_of_one_key_in_two_folders_have_their_own_sidecars(
    make_spec, measure, compared, tmp_path
):
    """Case 08 as records of schema 5 have it: the same trial, so the same key in both folders."""
    for folder, kernels in (("unfused", ["aten.bmm"]), ("fused", [FLASH, "aten.mm"])):
        measure(folder, make_spec(profile=PREDICTED), fuse=True)
        aged(tmp_path / folder, kernels)

    assert compared("unfused", "fused") == {"attention kernel": (NONE_FUSED, FLASH)}


@pytest.mark.parametrize("parts", [{"profile": PREDICTED}, {"training": RECIPE}])
def test_an_old_record_without_a_sidecar_does_not_state_it(
    parts, make_spec, measure, compared, tmp_path
):
    for folder in ("old", "new"):
        measure(folder, make_spec(**parts), fuse=True)
    aged(tmp_path / "old", None)
    found = compared("old", "new")

    assert found["attention kernel"] == ("not stated", FLASH)
    assert found["settings that decide numbers"] == ("not stated", "stated")
    assert not [name for name in found if name.startswith("environment.settings.")]


def test_a_records_file_finds_the_sidecar_of_its_folder(make_spec, measure, compared, tmp_path):
    for folder, kernels in (("unfused", ["aten.bmm"]), ("fused", [FLASH])):
        measure(folder, make_spec(profile=PREDICTED), fuse=True)
        aged(tmp_path / folder, kernels)
    (one,), (other,) = (
        [path.relative_to(tmp_path) for path in (tmp_path / folder / "records").iterdir()]
        for folder in ("unfused", "fused")
    )

    assert compared(one, other)["attention kernel"] == (NONE_FUSED, FLASH)
