"""Records made for the purpose, with whatever numbers a test wants."""

import pytest

from harness.metrics import METRICS
from harness.record import Outcome, Status, TrialRecord
from harness.spec import LearningRateTry, Profile, Training, TrialSpec, Workload

TRIES = (
    LearningRateTry(learning_rate=1e-3, validation_accuracy=0.5),
    LearningRateTry(learning_rate=1e-2, validation_accuracy=0.4),
)


@pytest.fixture
def make():
    """Return a maker of records: a training where an accuracy is given, else a profile."""

    def make(method="full", *, seed=0, status="completed", group="g", machine="m", **values):
        workload = values.pop("workload", {})
        environment = values.pop("environment", {})
        steps = values.pop("steps", 40)
        rate = values.pop("learning_rate", 1e-3)
        trains = "accuracy_top1" in values
        settings = {"model": "test_vit", "image_size": 64, "batch": 4, "classes": 5}
        spec = TrialSpec(
            method=method,
            seed=seed,
            workload=Workload(**settings | workload),
            training=Training(steps=steps, learning_rate=rate, tries=TRIES) if trains else None,
            profile=None if trains else Profile(rounds=3, steps=1),
        )
        return TrialRecord(
            key=f"{method}-{spec.trial_id()}-{machine}-{environment.get('commit', '')}",
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
    return lambda _: {}
