"""A new method beside BSR: verdicts, what is unlike, what cannot be said."""

import numpy as np
import pytest
from scipy.stats import binom

from bsrbench.harness.records.sidecar import sidecar_from
from bsrbench.harness.records.store import Gathered
from bsrbench.reports.compare import verdict
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.compare.matching import match
from bsrbench.reports.compare.power import power
from bsrbench.reports.compare.statistics import paired_difference
from bsrbench.reports.compare.verdict import VerdictWord
from bsrbench.reports.wording import contrast_table

MIB = 2**20


def put(records, no_details, new="mine", baseline="bsr"):
    """Return the one contrast of two rows among the records."""
    (comparison,) = compare(records, no_details)
    pair = Pair(comparison.find(new), comparison.find(baseline), comparison.title())
    (found,) = contrast([pair], no_details)
    return found


def trained(make, method, accuracies, **more):
    return [make(method, seed=s, accuracy_top1=a, **more) for s, a in enumerate(accuracies)]


def verdicts_of_draws(difference, pairs_, draws=1000):
    """Return how often each word is said of pairs drawn with a true difference, deviation 1 %."""
    random = np.random.default_rng(5)
    said = []
    for _ in range(draws):
        found = paired_difference(list(random.normal(difference, 0.01, pairs_)))
        said.append(verdict.of_pairs("accuracy_top1", found, found.p).word)
    return {word: said.count(word) for word in VerdictWord}


@pytest.mark.parametrize("pairs_", [3, 6, 10])
def test_with_no_true_difference_few_draws_claim_one(pairs_):
    """At most 73 of 1,000: one in twenty, and what chance adds once in a thousand times."""
    said = verdicts_of_draws(0.0, pairs_)

    assert said[VerdictWord.BETTER] + said[VerdictWord.WORSE] <= 73


def test_a_true_difference_is_found_as_often_as_computed():
    """One deviation, ten pairs: within what luck does to 1,000 draws once in a thousand times."""
    said = verdicts_of_draws(0.01, 10)
    expected = power(1.0, 10)

    assert binom.ppf(0.0005, 1000, expected) <= said[VerdictWord.BETTER]
    assert said[VerdictWord.BETTER] <= binom.ppf(0.9995, 1000, expected)
    assert said[VerdictWord.WORSE] == 0


def test_three_pairs_are_inconclusive_and_say_how_many_would_do(make, no_details):
    records = trained(make, "mine", [0.9, 0.91, 0.92]) + trained(make, "bsr", [0.8, 0.8, 0.8])
    found = put(records, no_details).find("accuracy_top1")

    assert found.verdict.word is VerdictWord.INCONCLUSIVE
    assert "6 can" in found.verdict.why
    assert (found.pairs, found.difference) == (3, pytest.approx(0.11))
    assert found.low > 0


def test_six_pairs_all_one_way_are_better(make, no_details):
    records = trained(make, "mine", [0.90, 0.91, 0.92, 0.90, 0.91, 0.93])
    records += trained(make, "bsr", [0.80, 0.82, 0.80, 0.81, 0.80, 0.80])
    found = put(records, no_details)

    assert found.find("accuracy_top1").verdict.word is VerdictWord.BETTER
    assert (
        put(records, no_details, "bsr", "mine").find("accuracy_top1").verdict.word
        is VerdictWord.WORSE
    )


def test_two_methods_at_once_need_more_pairs_than_one(make, no_details):
    """Of two methods with six pairs each Holm asks for twice 2 / 2^6 = 0.0625."""
    records = trained(make, "bsr", [0.80, 0.82, 0.80, 0.81, 0.80, 0.80])
    for method in ("mine", "other"):
        records += trained(make, method, [0.90, 0.91, 0.92, 0.90, 0.91, 0.93])
    (comparison,) = compare(records, no_details)
    bsr = comparison.find("bsr")
    found = contrast(
        [Pair(comparison.find(name), bsr, "") for name in ("mine", "other")], no_details
    )

    assert {c.find("accuracy_top1").verdict.word for c in found} == {VerdictWord.INCONCLUSIVE}


def test_identical_accuracies_are_the_same(make, no_details):
    records = trained(make, "mine", [0.8, 0.7, 0.9]) + trained(make, "bsr", [0.8, 0.7, 0.9])

    assert str(put(records, no_details).find("accuracy_top1").verdict) == "same within 0.5 points"


def test_accuracies_are_paired_by_seed(make, no_details):
    """Seeds 1 and 2 are in both: 0.9 - 0.5 and 0.8 - 0.6."""
    records = [make("mine", seed=s, accuracy_top1=a) for s, a in ((1, 0.9), (2, 0.8), (7, 0.1))]
    records += [make("bsr", seed=s, accuracy_top1=a) for s, a in ((2, 0.6), (1, 0.5))]
    found = put(records, no_details).find("accuracy_top1")

    assert (found.pairs, found.difference) == (2, pytest.approx(0.3))


def test_without_a_common_seed_there_is_no_verdict(make, no_details):
    records = [make("mine", seed=1, accuracy_top1=0.9), make("bsr", seed=2, accuracy_top1=0.8)]
    found = put(records, no_details).find("accuracy_top1")

    assert found.verdict.word is VerdictWord.NONE
    assert found.verdict.why == "the rows have no seed in common"


@pytest.mark.parametrize(
    ("size", "expected"),
    [(100, "same within 1 %"), (101, "same within 1 %"), (102, "worse"), (60, "better")],
)
def test_bytes_are_exact(make, no_details, size, expected):
    records = [make("mine", peak_counted_bytes=size * MIB)]
    records += [make("bsr", peak_counted_bytes=100 * MIB)]

    assert str(put(records, no_details).find("peak_counted_bytes").verdict) == expected


def test_times_are_judged_by_their_rounds(make, no_details):
    """Three rounds at 0.5 are better; three about 1 are inconclusive; at 1 they are the same."""
    times = {"bsr": [1.0, 1.1, 0.9], "fast": [0.5, 0.56, 0.45], "like": [0.8, 1.3, 0.9]}
    times["same"] = times["bsr"]
    records = [make(method, step_seconds=seconds) for method, seconds in times.items()]
    said = {
        method: str(put(records, no_details, method).find("step_seconds").verdict)
        for method in ("fast", "like", "same")
    }

    assert said == {"fast": "better", "like": "inconclusive", "same": "same within 5 %"}


def test_phases_are_split_into_the_rounds_of_the_steps(make, no_details):
    """Three rounds, two phase samples a round: 2 over 4 in each."""
    mine = make("mine", step_seconds=[1.0] * 3, forward_seconds=[2.0] * 6)
    bsr = make("bsr", step_seconds=[1.0] * 3, forward_seconds=[4.0] * 6)
    found = put([mine, bsr], no_details).find("forward_seconds")

    assert (found.pairs, found.ratio) == (3, pytest.approx(0.5))


def test_times_of_two_round_groups_have_no_verdict(make, no_details):
    records = [make("mine", step_seconds=[1.0] * 3), make("bsr", group="h", step_seconds=[2.0] * 3)]
    found = put(records, no_details).find("step_seconds")

    assert (found.ratio, found.verdict.why) == (None, "not timed in turns with each other")


def test_seconds_of_two_machines_do_not_even_stand_side_by_side(make, no_details):
    records = [make("mine", machine="a", step_seconds=[1.0] * 3, peak_counted_bytes=MIB)]
    records += [make("bsr", machine="b", step_seconds=[1.0] * 3, peak_counted_bytes=MIB)]
    (comparison,) = compare(records, no_details)
    (found,) = contrast([Pair(*comparison.rows, "")], no_details)

    assert found.find("step_seconds").new is None
    assert "two machines" in found.find("step_seconds").verdict.why
    assert found.find("peak_counted_bytes").ratio == 1


def test_what_one_row_lacks_says_why(make, no_details):
    records = [make("mine", peak_counted_bytes=MIB), make("bsr", step_flop=1)]
    found = put(records, no_details)

    assert found.find("peak_counted_bytes").verdict.why == "bsr: a test"
    assert found.find("forward_macs") is None  # neither has it


def test_every_difference_of_specs_and_environments_is_listed(make, no_details):
    kernel = {"flops": {"by_operator": {"aten.bmm": 1}}}
    details = {"mine": kernel, "bsr": {"flops": {"by_operator": {"aten._flash_attention": 1}}}}
    records = [
        make(
            "mine",
            peak_counted_bytes=1,
            workload={"precision": "bf16"},
            environment={"versions": {"torch": "2"}, "device": {"threads": 1}},
        ),
        make("bsr", peak_counted_bytes=1, environment={"versions": {"torch": "3"}}),
    ]
    (comparison,) = compare(records, no_details)
    pair = Pair(*comparison.rows, "")
    (found,) = contrast([pair], lambda key: sidecar_from(details[key.split("-")[0]]))
    listed = {one.name: (one.new, one.baseline) for one in found.unlike}

    assert listed == {
        "method": ("mine", "bsr"),
        "workload.precision": ("bf16", "fp32"),
        "environment.versions.torch": ("2", "3"),
        "environment.device.threads": ("1", "not stated"),
        "attention kernel": ("none fused: products and a softmax", "aten._flash_attention"),
    }


def test_the_spread_over_learning_rates_stands_beside_that_over_seeds(make, no_details):
    records = trained(make, "mine", [0.9, 0.8]) + trained(make, "bsr", [0.8, 0.7])
    lines = contrast_table.spreads(put(records, no_details))

    assert lines[0] == (
        "mine: test accuracy over seeds 0.800 to 0.900 (2); "
        "validation accuracy over learning rates tried 0.400 to 0.500 (2)"
    )


def test_two_recipes_are_two_questions(make, no_details):
    """Forty steps and two never share a row; the profile stands beside both."""
    records = [make("bsr", peak_counted_bytes=1), *trained(make, "bsr", [0.8])]
    records += trained(make, "bsr", [0.1], steps=2)
    found = compare(records, no_details)

    assert [c.find("bsr").accuracy().centre for c in found] == [0.8, 0.1]
    assert [c.find("bsr").value("peak_counted_bytes") for c in found] == [1, 1]
    assert [c.title().rsplit(", ", 1)[1] for c in found] == ["40 steps", "2 steps"]


def test_two_learning_rates_of_one_method_are_two_rows(make, no_details):
    records = trained(make, "bsr", [0.8]) + trained(make, "bsr", [0.6], learning_rate=0.5)
    (comparison,) = compare(records, no_details)

    assert [row.label for row in comparison.rows] == [
        "bsr [learning rate 0.001]",
        "bsr [learning rate 0.5]",
    ]


def pairs(new, baseline, records, **asked):
    return match(new, baseline, records, **asked).pairs


def pool(*records):
    return Gathered(list(records), [], ())


def test_a_row_is_paired_with_the_baseline_of_its_question(make):
    records = [
        make(method, peak_counted_bytes=1, workload={"batch": batch})
        for method in ("mine", "bsr")
        for batch in (4, 8)
    ]
    found = pairs("mine", "bsr", pool(*records))

    assert [(p.new.spec.workload.batch, p.baseline.spec.workload.batch) for p in found] == [
        (4, 4),
        (8, 8),
    ]


def test_another_model_is_refused_unless_told(make):
    mine = make("mine", peak_counted_bytes=1, workload={"model": "vit_tiny_patch16_224"})
    records = pool(mine, make("bsr", peak_counted_bytes=2))

    with pytest.raises(ValueError, match=r"model vit_tiny_patch16_224 and test_vit.*--unlike"):
        pairs("mine", "bsr", records)
    (found,) = pairs("mine", "bsr", records, even_unlike=True)
    assert found.new.label == "mine"


def test_another_optimizer_is_compared_and_listed(make, no_details):
    records = pool(
        make("mine", peak_counted_bytes=1, workload={"optimizer": "adamw"}),
        make("bsr", peak_counted_bytes=2),
    )
    (found,) = contrast(pairs("mine", "bsr", records), no_details)

    assert [one.name for one in found.unlike] == ["method", "workload.optimizer"]


def test_two_commits_are_matched_row_by_row(make):
    old = {"commit": "aaa111"}
    records = pool(
        *(make(m, peak_counted_bytes=2, environment=old) for m in ("bsr", "full")),
        *(make(m, peak_counted_bytes=3, environment={"commit": "bbb222"}) for m in ("bsr", "head")),
    )
    found = pairs("commit:bbb", "commit:aaa", records)

    assert [(p.new.label, p.baseline.label) for p in found] == [("bsr", "bsr")]
    assert found[0].new.value("peak_counted_bytes") == 3


def test_an_unknown_name_gets_the_nearest(make):
    records = pool(make("bsr", peak_counted_bytes=1), make("checkpoint", peak_counted_bytes=1))

    with pytest.raises(ValueError, match="did you mean 'checkpoint'"):
        pairs("chekpoint", "bsr", records)
    with pytest.raises(ValueError, match=r"no commit 'fff'.*c0ffee"):
        pairs("commit:fff", "bsr", records)
