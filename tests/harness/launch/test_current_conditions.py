"""What decides numbers here and now, and why a stored record was made under something else."""

import pytest

from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.launch.planning.stale_trials import stale
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_key import ANY_MACHINE, RecordKey
from bsrbench.harness.records.trial_record import Outcome, Status
from bsrbench.harness.spec.recipe import Training
from tests.trial_records import trial_record

NOW = {"TIMM_FUSED_ATTN": "1"}
VERSIONS = {"torch": "2.14.1", "timm": "1.0.31", "peft": "0.21.2"}
FRESH = {"measuring": "new"}


@pytest.fixture
def present():
    return CurrentConditions(lambda _: NOW, VERSIONS, "new")


@pytest.fixture
def make(make_spec, present):
    """Return a maker of a trial's record, otherwise than it would be now in what is said."""

    def make(*, settings=NOW, versions=VERSIONS, machine="here", source="s", **parts):
        spec = parts.pop("spec", make_spec())
        key = CurrentConditions(
            lambda _: settings or {}, versions, parts.pop("measuring", "new")
        ).key(spec, source, machine)
        if parts.pop("old", False):
            key = RecordKey(key.method, key.trial, key.source, None, None, key.machine)
        environment = {"machine_id": machine, "versions": versions}
        return trial_record(
            key=str(key),
            spec=spec,
            outcome=Outcome(status=Status.COMPLETED),
            measurements={},
            missing=dict.fromkeys(METRICS, "a test"),
            environment=environment | ({} if settings is None else {"settings": settings}),
            finished_at="2026-01-01T00:00:00+00:00",
        )

    return make


STATES_NOTHING = "made before record keys had hashes of measuring code and settings"


@pytest.mark.parametrize(
    ("otherwise", "why"),
    [
        ({"settings": {"TIMM_FUSED_ATTN": "0"}}, "measured under other settings: {fused}"),
        (
            {"settings": NOW | {"MKL_CBWR": "AVX2"}},
            "measured under other settings: MKL_CBWR AVX2, now not set",
        ),
        (
            {"settings": {"TIMM_FUSED_ATTN": "0", "MKL_CBWR": "AVX2"}},
            "measured under other settings: MKL_CBWR AVX2, now not set and {fused}",
        ),
        (
            {"versions": VERSIONS | {"torch": "2.9"}},
            "measured with other versions: torch 2.9, now 2.14.1",
        ),
        ({"measuring": "other"}, "the measuring code has changed"),
        ({"source": "other"}, "the method's source has changed"),
        ({"machine": "there"}, "measured on another machine"),
        (
            {"machine": "there", "source": "other"},
            "measured on another machine; the method's source has changed",
        ),
        ({"old": True, "settings": None}, STATES_NOTHING),
        (
            {"old": True, "settings": None, "versions": {"torch": "2.9", "timm": "1.0.31"}},
            f"{STATES_NOTHING}; measured with other versions: torch 2.9, now 2.14.1",
        ),
    ],
)
def test_a_run_says_why_what_is_stored_is_run_again(otherwise, why, make, make_spec, present):
    spec = make_spec()
    missing = [(present.key(spec, "s", "here"), spec)]
    expected = why.format(fused="TIMM_FUSED_ATTN 0, now 1")

    assert stale(missing, [make(**otherwise)], present) == [f"stale, run again: full ({expected})"]


def test_the_newest_record_of_this_machine_is_spoken_of(make, make_spec, present):
    spec = make_spec()
    missing = [(present.key(spec, "s", "here"), spec)]
    records = [make(source="older"), make(settings={}), make(machine="there")]

    assert stale(missing, records, present) == [
        "stale, run again: full (measured under other settings: TIMM_FUSED_ATTN not set, now 1)"
    ]


def test_what_has_a_record_of_its_own_or_none_at_all_is_not_stale(make, make_spec, present):
    """Another trial's record says nothing; one under the same key is run again for a limit, say."""
    spec, other = make_spec(), make_spec(seed=7)
    missing = [(present.key(spec, "s", "here"), spec)]

    assert stale(missing, [make(spec=other)], present) == []
    assert stale(missing, [make(source="older"), make()], present) == []


def test_of_a_cluster_any_machine_will_do(make, make_spec, present):
    spec = make_spec()
    missing = [(present.key(spec, "s", ANY_MACHINE), spec)]

    assert stale(missing, [make(machine="there")], present) == []
    assert stale(missing, [make(machine="there", source="older")], present) == [
        "stale, run again: full (the method's source has changed)"
    ]


def test_rows_with_one_reason_stand_together(make, make_spec, present):
    specs = [make_spec(name, seed=seed) for name in ("full", "bsr") for seed in (0, 1)]
    missing = [(present.key(spec, "s", "here"), spec) for spec in specs]
    records = [make(spec=spec, source="older") for spec in specs]

    assert stale(missing, records, present) == [
        "stale, run again: full, bsr (the method's source has changed)"
    ]


def test_settings_are_asked_once_for_each_device(make_spec):
    asked = []
    found = CurrentConditions.asked(lambda device: asked.append(device) or {})
    for device in ("cpu", "cpu", "cuda:0"):
        found.key(make_spec(device=device), "s", "here")

    assert asked == ["cpu", "cuda:0"]


def test_the_versions_that_read_images_decide_trainings(make_spec, present):
    training = make_spec(training=Training(steps=1, learning_rate=0.1))
    newer = CurrentConditions(present.settings, VERSIONS | {"pillow": "99"}, "new")

    assert newer.key(training, "s", "m") != present.key(training, "s", "m")
    assert newer.key(make_spec(), "s", "m") == present.key(make_spec(), "s", "m")
