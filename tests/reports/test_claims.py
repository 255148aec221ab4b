"""Which claims hold is read off the records, whichever way it comes out."""

import pytest

from harness.metrics import METRICS
from harness.recipe import Training
from harness.record import Outcome, Status, TrialRecord
from harness.spec import Profile
from reports import table
from reports.claims import page
from reports.comparison import compare


@pytest.fixture
def make_record(make_spec):
    def make(method="full", *, seed=0, **values):
        trains = "accuracy_top1" in values
        spec = make_spec(
            method,
            seed=seed,
            training=Training(steps=1, learning_rate=1e-3) if trains else None,
            profile=None if trains else Profile(rounds=1, steps=1),
        )
        return TrialRecord(
            key=f"{method}{seed}{trains}",
            spec=spec,
            outcome=Outcome(status=Status.COMPLETED),
            measurements=values,
            missing={name: "a test" for name in METRICS if name not in values},
            environment={"machine_id": "m", "round_group": "g"},
            finished_at="2026-01-01T00:00:00+00:00",
        )

    return make


def lines(text, start):
    """Return lines of the questions; all in short comes before them."""
    _, _, questions = text.partition("\n## 1. ")
    return [line for line in questions.splitlines() if line.startswith(start)]


def in_short(text, start):
    short, _, _ = text.partition("\n## 1. ")
    return [line for line in short.splitlines() if line.startswith(start)]


def test_each_definition_is_put_against_each_row(make_record):
    records = [
        make_record("full", peak_counted_bytes=200, step_flop=100, step_seconds=[1.0]),
        make_record("checkpoint", peak_counted_bytes=130, step_flop=130, step_seconds=[1.3]),
        make_record("head", peak_counted_bytes=50, step_flop=30, step_seconds=[0.2]),
        make_record("bsr", peak_counted_bytes=100, step_flop=40, step_seconds=[0.4]),
        make_record("bsr+int8", peak_counted_bytes=60, step_flop=40, step_seconds=[0.5]),
    ]
    text = page(records, lambda _: {})

    assert lines(text, "| memory, counted") == [
        "| memory, counted | 1.40× | **2.00×** | 1.30× | 0.50× |"
    ]
    assert lines(text, "- memory, counted") == [
        (
            "- memory, counted: 1.4 times or more against full; "
            "less, but something, against checkpoint; nothing against head."
        )
    ]
    assert lines(text, "- compute, FLOPs") == [
        (
            "- compute, FLOPs of a training step: 2 times or more against full, checkpoint; "
            "nothing against head."
        )
    ]
    assert lines(text, "| time of a training step") == [
        "| time of a training step | 2.00× | **2.50×** | **3.25×** | 0.50× |"
    ]
    assert "memory, process" not in text  # nobody measured it
    assert "bsr+int8" not in text  # BSR is no alternative to itself


def test_in_short_each_claim_names_the_fewest_rows(make_record):
    """Memory is 2, 1.3 and 0.5 times BSR's, FLOPs 2.5, 2 and 2 times; nothing has 2 times MACs."""
    records = [
        make_record("full", peak_counted_bytes=200, step_flop=100, forward_macs=9),
        make_record("checkpoint", peak_counted_bytes=130, step_flop=80, forward_macs=9),
        make_record("head", peak_counted_bytes=50, step_flop=80),
        make_record("bsr", peak_counted_bytes=100, step_flop=40, forward_macs=5),
    ]
    text = page(records, lambda _: {})

    assert in_short(text, "| memory, counted") == ["| memory, counted | 1.40× | only full |"]
    assert in_short(text, "| compute") == [
        "| compute, forward MACs | 2.00× | none |",
        "| compute, FLOPs of a training step | 2.00× | all |",
    ]
    assert in_short(text, "| accuracy") == ["| accuracy of bsr (of full) | similar | – |"]
    assert "nothing was trained here" in text


def test_in_short_a_time_must_reach_its_claim_in_every_round(make_record):
    records = [
        make_record("bsr", step_seconds=[1.0, 1.0]),
        make_record("head", step_seconds=[3.0, 3.0]),
        make_record("bias", step_seconds=[2.5, 1.6]),
    ]
    text = page(records, lambda _: {})

    assert in_short(text, "| time") == ["| time of a training step | 2.00× | all but bias |"]


def test_questions_are_numbered_and_in_short_side_by_side(make_record):
    records = [
        make_record("full", peak_counted_bytes=200),
        make_record("bsr", peak_counted_bytes=100),
        *(
            record.model_copy(
                update={
                    "key": f"other {record.key}",
                    "spec": record.spec.model_copy(
                        update={"workload": record.spec.workload.model_copy(update={"batch": 2})}
                    ),
                }
            )
            for record in (
                make_record("full", peak_counted_bytes=110),
                make_record("bsr", peak_counted_bytes=100),
            )
        ),
    ]
    text = page(records, lambda _: {})

    assert in_short(text, "| memory, counted") == ["| memory, counted | 1.40× | all | none |"]
    assert "\n## 1. " in text
    assert "\n## 2. " in text


def test_a_time_reaches_a_claim_only_if_it_does_in_every_round(make_record):
    """Ratios by round: head 3, 3; bias 2.5, 1.6, whose geometric mean is 2."""
    records = [
        make_record("bsr", step_seconds=[1.0, 1.0]),
        make_record("head", step_seconds=[3.0, 3.0]),
        make_record("bias", step_seconds=[2.5, 1.6]),
    ]
    text = page(records, lambda _: {})

    assert lines(text, "| time of a training step") == [
        "| time of a training step | 2.00× | **3.00×** | \\~2.00× |"
    ]
    assert lines(text, "- time of a training step") == [
        (
            "- time of a training step: 2 times or more against head; "
            "2 times or more in some rounds and not in others against bias."
        )
    ]


def test_rows_that_were_disturbed_while_timed_are_named(make_record):
    disturbed = make_record("head", step_seconds=[3.0])
    disturbed.notes.append("timing: 1 of 1 visits was disturbed")
    text = page([make_record("bsr", step_seconds=[1.0]), disturbed], lambda _: {})

    assert "for notes were taken: head." in text


def test_accuracy_stands_beside(make_record):
    records = [
        *(make_record("full", seed=s, accuracy_top1=a) for s, a in ((0, 0.9), (1, 0.8))),
        *(make_record("bsr", seed=s, accuracy_top1=0.7) for s in (0, 1)),
    ]
    text = page(records, lambda _: {})

    assert "| bsr | 0.700 | 0.700 | 0.700 | 2 |" in text
    assert "| full | 0.850 | 0.800 | 0.900 | 2 |" in text
    assert in_short(text, "| accuracy") == [
        "| accuracy of bsr (of full) | similar | 0.700 (0.850) |"
    ]
    assert "nothing was trained here" not in text


def test_without_bsr_there_is_nothing_to_say(make_record):
    assert "##" not in page([make_record("full", peak_counted_bytes=1)], lambda _: {})


def test_accuracy_over_time_is_a_table(make_record):
    """95 % of full's last reading is 0.76; the shortest training took 20 s."""
    curves = {
        "full": ([10.0, 20.0, 40.0], [0.5, 0.7, 0.8]),
        "bsr": ([5.0, 10.0, 20.0], [0.4, 0.77, 0.75]),
        "head": ([5.0, 10.0, 21.0], [0.4, 0.5, 0.6]),
    }
    records = [
        make_record(method, accuracy_top1=0.5, curve_seconds=seconds, curve_accuracies=accuracies)
        for method, (seconds, accuracies) in curves.items()
    ]
    (comparison,) = compare(records, lambda _: {})
    ((_, titles, rows),) = table.sections(comparison)

    assert titles[4:] == ["s to 0.760", "accuracy in 20.0 s"]
    assert rows == [
        ["full", "1", "40.0", "0.800", "40.0", "0.700"],
        ["bsr", "1", "20.0", "0.750", "10.0", "0.750"],
        ["head", "1", "21.0", "0.600", "– (1 never)", "0.500"],
    ]
