"""Which claims hold is read off the records, whichever way it comes out."""

import numpy as np
import pytest
from scipy.stats import binom

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.remarks import NoteKind
from bsrbench.harness.records.trial_record import Outcome, Status
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.wording import claims, report_tables
from bsrbench.reports.wording.claims import DEFINITIONS, ClaimQuestion, page
from tests.trial_records import altered, no_details, note, trial_record

STEP_TIME = next(d for d in DEFINITIONS if d.metric == "step_seconds")


@pytest.fixture
def make_record(make_spec):
    def make(method="full", *, seed=0, options=None, workload=None, **values):
        trains = "accuracy_top1" in values
        spec = make_spec(
            method,
            seed=seed,
            options=options,
            **workload or {},
            training=Training(steps=1, learning_rate=1e-3) if trains else None,
            profile=None if trains else Profile(rounds=3, steps=1),
        )
        return trial_record(
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
        make_record("full", peak_counted_bytes=200, step_flop=100, step_seconds=[1.0] * 3),
        make_record("checkpoint", peak_counted_bytes=130, step_flop=130, step_seconds=[1.3] * 3),
        make_record("head", peak_counted_bytes=50, step_flop=30, step_seconds=[0.2] * 3),
        make_record("bsr", peak_counted_bytes=100, step_flop=40, step_seconds=[0.4] * 3),
        make_record("bsr+int8", peak_counted_bytes=60, step_flop=40, step_seconds=[0.5] * 3),
    ]
    text = page(records, no_details)

    assert lines(text, "| memory, counted") == [
        "| memory, counted | 1.40× | **2.00×** | 1.30× | 0.50× |"
    ]
    assert lines(text, "- memory, counted") == [
        (
            "- memory, counted: 1.4 times or more against full; "
            "a smaller saving than claimed against checkpoint; no saving against head."
        )
    ]
    assert lines(text, "- compute, FLOPs") == [
        (
            "- compute, FLOPs of a training step: 2 times or more against full, checkpoint; "
            "no saving against head."
        )
    ]
    assert lines(text, "| time of a training step") == [
        "| time of a training step | 2.00× | **2.50×** | **3.25×** | 0.50× |"
    ]
    assert "memory, process" not in text  # nobody measured it
    assert "bsr+int8" not in text  # BSR is no alternative to itself


def test_a_row_with_another_optimizer_is_no_alternative(make_record):
    """BSR is here with sgd, so AdamW's state would be counted as a saving of BSR."""
    lion = {"workload": {"optimizer": "lion"}}
    rows = [
        make_record("full", peak_counted_bytes=130),
        make_record("full", peak_counted_bytes=150, **lion),
        make_record("bsr", peak_counted_bytes=100),
    ]

    assert lines(page(rows, no_details), "| memory, counted") == [
        "| memory, counted | 1.40× | 1.30× |"
    ]


def test_in_short_each_claim_names_the_fewest_rows(make_record):
    """Memory is 2, 1.3 and 0.5 times BSR's, FLOPs 2.5, 2 and 2 times; nothing has 2 times MACs."""
    records = [
        make_record("full", peak_counted_bytes=200, step_flop=100, forward_macs=9),
        make_record("checkpoint", peak_counted_bytes=130, step_flop=80, forward_macs=9),
        make_record("head", peak_counted_bytes=50, step_flop=80),
        make_record("bsr", peak_counted_bytes=100, step_flop=40, forward_macs=5),
    ]
    text = page(records, no_details)

    assert in_short(text, "| memory, counted") == ["| memory, counted | 1.40× | only full |"]
    assert in_short(text, "| compute") == [
        "| compute, forward MACs | 2.00× | none |",
        "| compute, FLOPs of a training step | 2.00× | all |",
    ]
    assert in_short(text, "| accuracy") == ["| accuracy of bsr (of full) | similar | – |"]
    assert "nothing was trained here" in text


def test_questions_are_numbered_and_in_short_side_by_side(make_record):
    records = [
        make_record("full", peak_counted_bytes=200),
        make_record("bsr", peak_counted_bytes=100),
        *(
            altered(
                record,
                key=f"other {record.key}",
                spec=record.spec.model_copy(
                    update={"workload": record.spec.workload.model_copy(update={"batch": 2})}
                ),
            )
            for record in (
                make_record("full", peak_counted_bytes=110),
                make_record("bsr", peak_counted_bytes=100),
            )
        ),
    ]
    text = page(records, no_details)

    assert in_short(text, "| memory, counted") == ["| memory, counted | 1.40× | all | none |"]
    assert "\n## 1. " in text
    assert "\n## 2. " in text


ROUNDS = {  # of steps, in the unit of bsr's
    "full": [3.0, 3.1, 2.9],
    "bias": [2.1, 2.2, 2.6],
    "lora": [1.5, 1.52, 1.48],
    "prompt": [1.8, 1.9, 2.2],
    "head": [0.9, 1.0, 1.2],
    "norm": [0.5, 0.52, 0.48],
}


def test_a_time_reaches_a_claim_only_with_its_whole_interval(make_record):
    """Every round of bias is above 2, and the interval of its logarithm is not.

    Logarithms 0.742, 0.788, 0.956: mean 0.829, deviation 0.112; 4.303 * 0.112 / sqrt(3) = 0.279
    reach from exp(0.550) = 1.73 to exp(1.108) = 3.03. Head: -0.1054, 0, 0.1823: mean 0.0257,
    deviation 0.1456, reach 0.3616, from exp(-0.3359) = 0.71 to exp(0.3873) = 1.47. Prompt: 0.588,
    0.642, 0.788: mean 0.673, deviation 0.104, reach 0.258, from 1.51 to 2.54: it holds 2, too.
    """
    records = [make_record(name, step_seconds=times) for name, times in ROUNDS.items()]
    text = page([make_record("bsr", step_seconds=[1.0] * 3), *records], no_details)
    (cells,) = lines(text, "| time of a training step")
    found = [cell.strip() for cell in cells.split("|")[3:-1]]

    assert [found[at].split("×")[0] for at in (0, 2, 5)] == ["**3.00", "1.50", "0.50"]
    assert found[1] == "\\~2.29× \\[1.73, 3.03\\]"
    assert found[3] == "\\~1.96× \\[1.51, 2.54\\]"
    assert found[4] == "1.03× \\[0.71, 1.47\\]"
    assert lines(text, "- time of a training step") == [
        (
            "- time of a training step: 2 times or more against full; inconclusive against bias, "
            "prompt; a smaller saving than claimed against lora; a smaller saving than claimed, "
            "perhaps none, against head; no saving against norm."
        )
    ]
    assert in_short(text, "| time") == [
        "| time of a training step | 2.00× | only full (inconclusive against 2 of 6) |"
    ]


def test_two_rounds_give_no_interval_and_decide_no_claim(make_record):
    records = [
        make_record("bsr", step_seconds=[1.0, 1.0]),
        make_record("head", step_seconds=[9.0, 9.0]),
    ]
    text = page(records, no_details)

    assert lines(text, "- time of a training step") == [
        "- time of a training step: inconclusive against head."
    ]
    assert "\\~9.00× |" in lines(text, "| time of a training step")[0]


def test_a_ratio_that_is_exactly_the_claim_is_seldom_called_reached(make_record):
    """Three visits with luck of 10 %: 2.5 % by the interval. "In every round" had 12.5 %.

    Of 1,000 draws at most 42 (once in a thousand tosses of such a coin).
    """
    random = np.random.default_rng(0)
    bsr = make_record("bsr", step_seconds=[1.0] * 3)
    reached = 0
    for times in 2.0 * np.exp(random.normal(0, 0.1, (1000, 3))):
        (comparison,) = compare([bsr, make_record("full", step_seconds=list(times))], dict)
        asked = ClaimQuestion(comparison, comparison.find("bsr"))
        reached += "all" in claims.holds_against(asked, STEP_TIME)

    assert reached <= binom.ppf(0.999, 1000, 0.025) == 42


def test_rows_are_alternatives_by_their_method_and_not_by_a_piece_of_text(make_record):
    """A file of one's own and an option may say "bsr"; a part of a composition is BSR."""
    records = [
        make_record(method, peak_counted_bytes=size)
        for method, size in (
            *(("bsr", 100), ("my_bsr.py:Mine", 200), ("bsr.py:Other", 300)),
            *(("lora+bsr", 400), ("bsr+int8", 500)),
        )
    ]
    records.append(make_record("lora", options={"rank": "bsr"}, peak_counted_bytes=150))
    text = page(records, no_details)
    heading = next(
        line for line in text.splitlines() if line.startswith("| definition | claim | m")
    )

    assert heading == (
        '| definition | claim | my\\_bsr.py:Mine | bsr.py:Other | lora (rank="bsr") |'
    )
    assert "**2.00×** | **3.00×** | **1.50×** |" in lines(text, "| memory, counted")[0]


def test_rows_that_were_disturbed_while_timed_are_named(make_record):
    disturbed = make_record("head", step_seconds=[3.0])
    noted = note("1 of 1 visits was disturbed", NoteKind.TIMING)
    disturbed = altered(disturbed, notes=[noted])
    text = page([make_record("bsr", step_seconds=[1.0]), disturbed], no_details)

    assert "Times have notes about disturbances: head." in text


def test_accuracy_stands_beside(make_record):
    records = [
        *(make_record("full", seed=s, accuracy_top1=a) for s, a in ((0, 0.9), (1, 0.8))),
        *(make_record("bsr", seed=s, accuracy_top1=0.7) for s in (0, 1)),
    ]
    text = page(records, no_details)

    assert "| bsr | 0.700 | 0.700 | 0.700 | 2 |" in text
    assert "| full | 0.850 | 0.800 | 0.900 | 2 |" in text
    assert in_short(text, "| accuracy") == [
        "| accuracy of bsr (of full) | similar | 0.700 (0.850) |"
    ]
    assert "nothing was trained here" not in text


def test_accuracies_side_by_side_are_over_the_seeds_that_both_have(make_record):
    """Of seeds 0 and 1 full has 0.85 and bsr 0.6; bsr's seed 2 with 0.9 is its own."""
    records = [
        *(make_record("full", seed=s, accuracy_top1=a) for s, a in ((0, 0.9), (1, 0.8))),
        *(make_record("bsr", seed=s, accuracy_top1=a) for s, a in ((0, 0.5), (1, 0.7), (2, 0.9))),
    ]
    text = page(records, no_details)
    apart = page([records[0], records[-1]], no_details)

    assert "| bsr | 0.700 | 0.500 | 0.900 | 3 (0 to 2) |" in text
    assert "| full | 0.850 | 0.800 | 0.900 | 2 (0 and 1) |" in text
    assert "| 0.600 (0.850), seeds 0 and 1 |" in in_short(text, "| accuracy")[0]
    assert "| no seed in both |" in in_short(apart, "| accuracy")[0]


def test_without_bsr_there_is_nothing_to_say(make_record):
    assert "##" not in page([make_record("full", peak_counted_bytes=1)], no_details)


def test_accuracy_over_time_is_a_table(make_record):
    """95 % of full's last reading is 0.76; the shortest training took 20 s."""
    curves = {
        "full": {"curve_seconds": [10.0, 20.0, 40.0], "curve_accuracies": [0.5, 0.7, 0.8]},
        "bsr": {"curve_seconds": [5.0, 10.0, 20.0], "curve_accuracies": [0.4, 0.77, 0.75]},
        "head": {"curve_seconds": [5.0, 10.0, 21.0], "curve_accuracies": [0.4, 0.5, 0.6]},
    }
    records = [
        make_record(method, accuracy_top1=0.5, curve_steps=[1, 2, 3], **curve)
        for method, curve in curves.items()
    ]
    (comparison,) = compare(records, no_details)
    ((_, titles, rows),) = report_tables.sections(comparison)

    assert titles[4:] == ["s to 0.760", "accuracy in 20.0 s"]
    assert rows == [
        ["full", "1", "40.0", "0.800", "40.0", "0.700"],
        ["bsr", "1", "20.0", "0.750", "10.0", "0.750"],
        ["head", "1", "21.0", "0.600", "– (1 never)", "0.500"],
    ]
