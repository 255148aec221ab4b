"""How many seeds would decide is what the whole rule does, played through draw by draw."""

from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from bsrbench.reports.compare import verdict
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.compare.power import MOST_SIMULATED, _sign_flip_p, pairs_to_show, power
from bsrbench.reports.compare.statistics import holm, paired_difference

SURE = 0.9995  # a right number is outside once in a thousand times


def decided(effect, pairs, comparisons, draws):
    """Count decisions among draws as ``compare`` takes them; nothing else compared differs."""
    random = np.random.default_rng([pairs, comparisons])
    count = 0
    for _ in range(draws):
        found = paired_difference(list(random.normal(0.01 * effect, 0.01, pairs)))
        p = holm([found.p, *[1.0] * (comparisons - 1)])[0]
        word = verdict.of_pairs("accuracy_top1", found, p, comparisons).word
        count += word in {verdict.VerdictWord.BETTER, verdict.VerdictWord.WORSE}
    return count


@pytest.mark.parametrize(
    ("effect", "pairs", "comparisons"),
    [(1.5, 6, 1), (1.0, 8, 1), (1.5, 9, 7), (1.2, 11, 3), (0.8, 15, 1), (1.0, 16, 7)],
)
def test_power_is_what_the_rule_decides(effect, pairs, comparisons):
    """Both sides of 13 pairs, beyond which a formula stands for the simulation."""
    draws = 200
    found, expected = decided(effect, pairs, comparisons, draws), power(effect, pairs, comparisons)

    assert binom.ppf(1 - SURE, draws, expected) <= found <= binom.ppf(SURE, draws, expected)


def test_the_formula_beyond_thirteen_pairs_is_that_of_exact_sign_flips():
    """All 2^14 flips of 500 draws, one deviation among seven comparisons."""
    pairs, comparisons, draws = MOST_SIMULATED + 1, 7, 500
    random = np.random.default_rng(0)
    signs = np.array(list(product((1, -1), repeat=pairs)))
    found = 0
    for sample in random.normal(1.0, 1.0, (draws, pairs)):
        p = np.mean(np.abs(signs @ sample) >= abs(sample.sum()) - 1e-9)
        found += comparisons * p <= 0.05 and ttest_1samp(sample, 0).pvalue <= 0.05
    expected = power(1.0, pairs, comparisons)

    assert binom.ppf(1 - SURE, draws, expected) <= found <= binom.ppf(SURE, draws, expected)


def test_both_tests_must_agree():
    """Of seven pairs without a difference flips alone pass in 6 of 128 ways, 4.7 % of draws.

    The interval refuses some of them: of 40,000 draws about 4.0 % pass both, give or take 0.1.
    """
    draws = np.random.default_rng(1).normal(size=(40_000, 7))
    sums = np.abs(draws @ np.array(list(product((1, -1), repeat=7))).T)
    flips = (sums >= np.abs(draws.sum(axis=1, keepdims=True)) - 1e-9).mean(axis=1)
    both = (flips <= 0.05) & (ttest_1samp(draws, 0, axis=1).pvalue <= 0.05)

    assert np.mean(flips <= 0.05) == pytest.approx(6 / 128, abs=0.003)
    assert power(0.0, 7) == pytest.approx(both.mean(), abs=0.004)


def test_six_seeds_at_one_and_a_half_deviations_decide_in_two_of_three_cases():
    """All six must point one way: 0.9332^6 = 0.66, less what the interval still refuses."""
    alike = NormalDist().cdf(1.5) ** 6

    assert alike == pytest.approx(0.66, abs=0.005)
    assert alike - 0.03 <= power(1.5, 6) <= alike
    assert pairs_to_show(1.5) == 7


def test_with_seven_methods_nine_seeds_are_the_fewest_that_decide():
    """7 x 2 / 2^8 = 0.055 is too much, 7 x 2 / 2^9 = 0.027 is not; and nine are seldom enough."""
    assert power(100.0, 8, 7) == 0
    assert power(100.0, 9, 7) == 1
    assert pairs_to_show(100.0, 7) == 9
    assert pairs_to_show(1.5, 7) > 9


def test_more_comparisons_need_more_pairs():
    needed = [pairs_to_show(1.0, comparisons) for comparisons in (1, 2, 7, 50)]

    assert needed == sorted(set(needed))


@pytest.mark.parametrize("effect", [0.3, 0.8, 1.5])
def test_the_pairs_to_show_are_the_fewest_with_that_power(effect):
    pairs = pairs_to_show(effect, 2)

    assert power(effect, pairs, 2) >= 0.8 > power(effect, pairs - 1, 2)


def test_a_difference_too_small_or_comparisons_too_many_have_no_such_number():
    assert pairs_to_show(0.001) is None
    assert pairs_to_show(0.0) is None
    assert pairs_to_show(5.0, 251) is None


def test_the_sign_flips_of_the_simulation_are_those_of_the_test():
    """Of each draw the share of all 2^7 flips that lie as far from 0."""
    draws = np.random.default_rng(2).normal(0.5, 1.0, (20, 7))

    assert _sign_flip_p(draws).tolist() == [paired_difference(list(draw)).p for draw in draws]


def trained(make, method, accuracies):
    return [make(method, seed=seed, accuracy_top1=a) for seed, a in enumerate(accuracies)]


def remarks(make, *rows):
    """Return the remarks of the first row against the last; all but the last are compared."""
    records = [record for name, values in rows for record in trained(make, name, values)]
    (comparison,) = compare(records, dict)
    *new, (baseline, _) = rows
    pairs = [Pair(comparison.find(name), comparison.find(baseline), "") for name, _ in new]
    return " ".join(contrast(pairs, dict)[0].remarks)


BSR = ("bsr", [0.5] * 6)


@pytest.mark.parametrize("count", [2, 3])
def test_two_or_three_pairs_do_not_say_how_many_would_do(make, count):
    said = remarks(make, ("mine", [0.60, 0.61, 0.63][:count]), ("bsr", [0.5] * count))

    assert f"{count} pairs of seeds are too few to estimate their spread" in said
    assert "seeds detect it" not in said


def test_the_sentence_follows_the_rule_and_the_number_of_comparisons(make):
    """Differences 0.1 to 0.15: their mean is 0.125, 6.7 deviations of 0.0187: any pairs will do.

    So the fewest that the test allows: 6 of one comparison, 7 of two (2 x 2 / 2^6 = 0.0625).
    """
    mine = [0.60, 0.61, 0.62, 0.63, 0.64, 0.65]
    alone = remarks(make, ("mine", mine), BSR)
    two = remarks(make, ("mine", mine), ("other", mine), BSR)

    assert "6 seeds detect it with 80 % power; 6 were compared" in alone
    assert "7 seeds detect it with 80 % power, with 2 simultaneous comparisons" in two


def test_a_small_difference_needs_more_than_were_looked_at(make):
    """0.001 with a deviation of 0.1 is a hundredth: about (2.8 / 0.01)^2 = 78,000 pairs."""
    said = remarks(make, ("mine", [0.601, 0.401, 0.601, 0.401, 0.601, 0.401]), BSR)

    assert "more than 1,000 seeds detect it with 80 % power" in said
