"""The table of metrics holds together: names, passes and places that its entries refer to."""

from collections import Counter

import pytest

from bsrbench.harness.meters.live_bytes import Category
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.trial.absences import NEEDS
from bsrbench.harness.trial.trial_passes import PASSES
from bsrbench.reports import units
from bsrbench.reports.figures.palette import CATEGORY_COLOURS
from bsrbench.reports.wording.claims import CLAIMED


def places():
    """Yield where each entry stands: in which table or document, and at which place."""
    for metric in METRICS.values():
        yield from ((column.table, column.place) for column in metric.tables)
        yield from ((part.figure, part.place) for part in metric.figures if part.place)
        if metric.page:
            yield "page", metric.page.place
        if metric.judged:
            yield "judged", metric.judged.place
        if metric.claim:
            yield "claims", metric.claim.place


def test_no_two_metrics_have_one_place():
    assert [place for place, count in Counter(places()).items() if count > 1] == []


def test_every_pass_unit_need_and_claim_is_known():
    for metric in METRICS.values():
        assert set(metric.measured_by) <= set(PASSES)
        assert metric.display in units.BY_NAME
        assert set(metric.needs) <= set(NEEDS)
        assert metric.claim is None or metric.claim.claim in CLAIMED


def test_every_metric_that_an_entry_names_is_known():
    named = {metric.rate_of for metric in METRICS.values()}
    named |= {metric.stands_in_for for metric in METRICS.values()}

    assert named - {""} <= set(METRICS)


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.page])
def test_a_heading_ends_in_the_unit_of_its_numbers(name):
    unit, title = units.of_metric(name), METRICS[name].page.title

    assert unit.behind or title.endswith(f" {unit.name}" if unit.name else title)


def test_only_lists_belong_to_blocks_tasks_or_readings():
    assert all(metric.samples for metric in METRICS.values() if metric.per)


def test_what_is_judged_in_turns_is_sampled_by_the_clock():
    for metric in METRICS.values():
        assert metric.is_judged("in turns") == (metric.is_timed() and metric.samples)


def test_the_test_accuracy_alone_is_judged_by_seed():
    assert [n for n, m in METRICS.items() if m.is_judged("by seed")] == ["accuracy_top1"]


def test_the_parts_of_the_peak_are_the_categories_of_storages():
    parts = [metric.part for metric in METRICS.values() if metric.part]

    assert parts == list(Category)
    assert set(parts) == set(CATEGORY_COLOURS)
