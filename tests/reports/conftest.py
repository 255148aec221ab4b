"""Records made for the purpose, the page written from them, and a browser to look at it."""

import shutil

import pytest

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_key import in_file_name
from bsrbench.harness.records.sidecar import NO_SIDECAR, sidecar_from
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Outcome, Status
from bsrbench.harness.spec.recipe import LearningRateTry, Training
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import html_report
from tests.reports.added_row import FIRST
from tests.trial_records import altered, trial_record

MIB = 2**20
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ADDED = "2026-02-02T00:00:00+00:00"
NOT_LOOKED_AT = "the page was NOT looked at in a browser"
# Medians of visits: full 0.2, 0.2, 0.4; bsr 0.1, 0.1, 0.1 (0.9 is an outlier within a visit).
TIMES = {"full": [0.2, 0.2, 0.9] * 2 + [0.4] * 3, "bsr": [0.1, 0.1, 0.9] * 3}
TIMELINE = {
    "index": [0, 5, 9],
    "live_bytes": [10 * MIB, 40 * MIB, 20 * MIB],
    "operators": ["aten.mm"],
    "operator": [0, 0, 0],
    "phases": ["forward", "backward"],
    "phase": [0, 0, 1],
    "modules": ["blocks.0", ""],
    "module": [0, 0, 1],
}
MODULES = {
    "blocks.0.attn": {"weights": MIB, "saved_activations": 2 * MIB},
    "blocks.1.attn": {"weights": MIB, "saved_activations": 3 * MIB},
    "head": {"weights": MIB},
}
SIDECAR = {"counted": {"timeline": TIMELINE, "modules_at_peak": MODULES}}
PARTS = {"weights_at_peak_bytes": 10 * MIB, "saved_activations_at_peak_bytes": 30 * MIB}
CURVE = {"curve_steps": [10, 20], "curve_seconds": [1.0, 2.0]}
CURVE_LISTS = ("curve_steps", "curve_seconds", "curve_accuracies")
TRIES = (
    LearningRateTry(learning_rate=1e-3, validation_accuracy=0.5),
    LearningRateTry(learning_rate=1e-2, validation_accuracy=0.4),
)


def whole_curve(values):
    """Return values in which each reading of a curve has its step, seconds and accuracy."""
    given = [values[name] for name in CURVE_LISTS if name in values]
    if not given:
        return values
    steps = list(range(1, len(given[0]) + 1))
    return (
        dict(zip(CURVE_LISTS, (steps, list(map(float, steps)), [0.5] * len(steps)), strict=True))
        | values
    )


@pytest.fixture
def make():
    """Return a maker of records: a training where an accuracy is given, else a profile."""

    def make(method="full", *, seed=0, status="completed", group="g", machine="m", **values):
        workload = values.pop("workload", {})
        environment = values.pop("environment", {})
        steps = values.pop("steps", 40)
        rate = values.pop("learning_rate", 1e-3)
        values, trains = whole_curve(values), "accuracy_top1" in values
        settings = {"model": "test_vit", "image_size": 64, "batch": 4, "classes": 5}
        spec = TrialSpec(
            method=method,
            seed=seed,
            workload=Workload(**settings | workload),
            training=Training(steps=steps, learning_rate=rate, tries=TRIES) if trains else None,
            profile=None if trains else Profile(rounds=3, steps=1),
        )
        source = environment.get("commit", "s")
        return trial_record(
            key=f"{in_file_name(method)}-{spec.trial_id()}-{source}-{machine}",
            spec=spec,
            outcome=Outcome(status=Status(status), reason="" if status == "completed" else "why"),
            measurements=values,
            missing={name: "a test" for name in METRICS if name not in values},
            environment={"machine_id": machine, "round_group": group, "commit": "c0ffee"}
            | environment,
            finished_at="2026-01-01T00:00:00+00:00",
        )

    return make


@pytest.fixture
def no_details():
    return lambda _: NO_SIDECAR


@pytest.fixture
def make_trial(make_spec):
    """Return a maker of records: of a training if they have an accuracy, else of a profile."""

    def make(method="full", *, seed=0, status="completed", reason="why", **given):
        group, machine = given.pop("group", "g"), given.pop("machine", "m")
        options, workload = given.pop("options", {}), given.pop("workload", {})
        values = {name: value for name, value in given.items() if value is not None}
        values = whole_curve(values)
        trains = "accuracy_top1" in values
        tries = (LearningRateTry(learning_rate=1e-3, validation_accuracy=0.5),)
        spec = make_spec(
            method,
            seed=seed,
            options=options,
            training=Training(steps=20, learning_rate=1e-3, tries=tries) if trains else None,
            profile=None if trains else Profile(rounds=3, steps=3),
            **workload,
        )
        return trial_record(
            key=f"trial-{spec.trial_id()}-{machine}",
            spec=spec,
            outcome=Outcome(status=Status(status), reason="" if status == "completed" else reason),
            measurements=values,
            missing={name: "a test" for name in METRICS if name not in values},
            notes=[],
            environment={"machine_id": machine, "round_group": group, "commit": "c0ffee"},
            finished_at="2026-01-01T00:00:00+00:00",
        )

    return make


@pytest.fixture
def write_page(tmp_path):
    """Return a writer of records, their sidecars and their page; it returns the page's path."""

    def write(records, details=None, title="a page"):
        store = Store(tmp_path)
        store.open_for_writing()
        for record in records:
            store.save(record, sidecar_from((details or {}).get(record.spec.method, {})))
        html_report.write(compare(records, store.detail), title, tmp_path / "report.html")
        return tmp_path / "report.html"

    return write


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium."""
    api = pytest.importorskip(
        "playwright.sync_api", reason=f"playwright is not installed: {NOT_LOOKED_AT}"
    )
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on PATH: {NOT_LOOKED_AT}")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def look(browser):
    """Return an opener of pages; whatever a test does, none may err or ask for another file."""
    contexts, faults, asked = [], [], []

    def opened(path, *, width=1400, scheme="light"):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        allowed.append(path.as_uri())
        return page

    allowed: list[str] = []
    yield opened
    for context in contexts:
        context.close()

    assert faults == []
    assert asked == allowed


@pytest.fixture
def sidecar():
    """Return the memory of a profile by moment and by module."""
    return SIDECAR


@pytest.fixture
def parts():
    """Return a counted peak by category."""
    return PARTS


@pytest.fixture
def records(make_trial):
    """Return profiles of four methods, one of which failed, and trainings of two seeds."""
    return [
        make_trial("full", peak_counted_bytes=100 * MIB, step_seconds=TIMES["full"], **PARTS),
        make_trial("bsr", peak_counted_bytes=40 * MIB, step_seconds=TIMES["bsr"], **PARTS),
        make_trial("head", peak_counted_bytes=50 * MIB, step_seconds=[0.1] * 9, group="h"),
        make_trial("lora", status="out of memory", reason="asked for 9 GiB", options={"rank": 4}),
        *(
            make_trial(
                name, seed=seed, accuracy_top1=reached, curve_accuracies=[0.3, reached], **CURVE
            )
            for name, first in (("full", 0.75), ("bsr", 0.5))
            for seed, reached in ((0, first), (1, first + 0.125))
        ),
    ]


@pytest.fixture
def page(records, write_page, look):
    return look(write_page(records, {"full": SIDECAR, "bsr": SIDECAR}))


@pytest.fixture
def stored(make):
    """Return the records of a finished suite."""
    return [make(name, step_seconds=times) for name, times in FIRST.items()]


@pytest.fixture
def add(make):
    """Return a maker of a record whose row took turns with stored ones."""

    def added(method, times, again, stored, group="h", finished_at=ADDED):
        keys = {record.spec.method: record.key for record in stored}
        beside = {keys[name]: {"step_seconds": taken} for name, taken in again.items()}
        record = make(method, step_seconds=times, group=group)
        return altered(record, beside=beside, finished_at=finished_at)

    return added


@pytest.fixture
def make_record(make_spec):
    def make(method="full", *, seed=0, status="completed", group="g", machine="m", **values):
        trains = "accuracy_top1" in values
        tries = (LearningRateTry(learning_rate=1e-3, validation_accuracy=0.5),)
        spec = make_spec(
            method,
            seed=seed,
            training=Training(steps=1, learning_rate=1e-3, tries=tries) if trains else None,
            profile=None if trains else Profile(rounds=1, steps=5),
        )
        return trial_record(
            key=f"{method}{seed}{trains}{machine}",
            spec=spec,
            outcome=Outcome(status=Status(status), reason="" if status == "completed" else "why"),
            measurements=values,
            missing={name: "a test" for name in METRICS if name not in values},
            environment={"machine_id": machine, "round_group": group, "commit": "c0ffee"},
            finished_at="2026-01-01T00:00:00+00:00",
        )

    return make
