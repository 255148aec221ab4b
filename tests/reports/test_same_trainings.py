"""The figure of memory against time and FLOPs, for rows that share one training."""

import msgspec
import pytest

from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.reports.figures import all_figures
from bsrbench.reports.figures.same_trainings import memory_and_time
from tests.reports.one_comparison import only

COSTS = {  # peak, FLOPs and times of a row, in the order of the suite
    "full": (100, 100, [1.0, 1.0, 1.0]),
    "checkpoint": (40, 130, [1.4, 1.6, 1.5]),
    "offload": (60, 100, [1.7, 1.7, 1.7]),
    "int8": (50, 110, [1.2, 1.2, 1.2]),
}


@pytest.fixture
def shares(make):
    """Return a maker of profiles of rows that share the training of full."""

    def shares(method, **values):
        record = make(method, **values)
        profile = Profile(rounds=3, steps=1, trains_as="full")
        spec = record.spec.model_dump() | {"profile": profile}
        return msgspec.structs.replace(record, spec=TrialSpec(**spec))

    return shares


@pytest.fixture
def records(make, shares):
    """Return rows that share the training of full, and bsr, which has its own."""
    made = [make("full", accuracy_top1=0.75), make("bsr", accuracy_top1=0.5)]
    for method, (peak, flop, times) in COSTS.items():
        of_row = make if method == "full" else shares
        made.append(of_row(method, peak_counted_bytes=peak, step_flop=flop, step_seconds=times))
    return [*made, make("bsr", peak_counted_bytes=9, step_flop=9, step_seconds=[0.5] * 3)]


def drawn(records):
    (axes,) = memory_and_time(only(records)).axes
    return axes, {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_points_stand_at_memory_and_cost_relative_to_full(records):
    axes, lines = drawn(records)
    (bars,) = axes.containers
    times = dict(bars.lines[0].get_xydata().tolist())

    assert times[0.4] == pytest.approx((1.4 * 1.6 * 1.5) ** (1 / 3))
    assert times[0.6] == pytest.approx(1.7)
    assert sorted(times) == [0.4, 0.5, 0.6, 1.0]
    assert lines["FLOPs"] == [[0.4, 1.3], [0.5, 1.1], [0.6, 1.0], [1.0, 1.0]]


def test_the_front_has_no_row_that_needs_more_memory_and_more_time(records):
    """Offload needs more of both than int8."""
    front = dict(drawn(records)[1]["Pareto front"])

    assert sorted(front) == [0.4, 0.5, 1.0]


def test_a_row_with_a_training_of_its_own_is_not_drawn(records):
    axes, _ = drawn(records)

    assert {text.get_text() for text in axes.texts} == set(COSTS)


def test_an_interval_reaches_from_its_ends(records):
    axes, _ = drawn(records)
    ratio = only(records).time_ratio(only(records).find("checkpoint"))
    (segments,) = (lines.get_segments() for lines in axes.containers[0].lines[2])

    assert [ratio.low, ratio.high] == pytest.approx(segments[0][:, 1].tolist())


@pytest.mark.parametrize("untimed", [False, True])
def test_two_points_make_no_figure(untimed, records, shares, tmp_path):
    few = [record for record in records if record.spec.method not in {"offload", "int8"}]
    if untimed:
        few.append(shares("int8", peak_counted_bytes=50))
    figures = all_figures.write_all([only(few)], tmp_path)

    assert memory_and_time(only(few)) is None
    assert "memory-time" not in {figure.name for figure in figures}


def test_the_caption_says_what_the_rows_share(records, tmp_path):
    figures = all_figures.write_all([only(records)], tmp_path)
    captions = {figure.name: figure.caption for figure in figures}

    assert "for rows whose trainings are the same" in captions["memory-time"]
    assert (tmp_path / "memory-time.png").exists()
