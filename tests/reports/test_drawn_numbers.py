"""What figures show where, read from what matplotlib was told to draw."""

import math

import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from bsrbench.harness.records.metric import FigurePart
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.figures import accuracy_points, memory_figures, training_figures
from bsrbench.reports.figures.ratio_bars import ratios

MIB = 2**20
MEMORY = FigurePart("accuracy", "memory")
TIME = FigurePart("time-flops", "time")


@pytest.fixture
def comparison(make, no_details):
    """Return full at 100 MiB and bsr at 40, with accuracies of two seeds and their curves."""
    memory = {"full": (100, 70, 30), "bsr": (40, 30, 10)}
    records = [
        make(
            method,
            peak_counted_bytes=peak * MIB,
            weights_at_peak_bytes=weights * MIB,
            saved_activations_at_peak_bytes=saved * MIB,
        )
        for method, (peak, weights, saved) in memory.items()
    ]
    accuracies = {"full": (0.8, 0.9), "bsr": (0.5, 0.8)}
    records += [
        make(
            method,
            seed=seed,
            accuracy_top1=accuracy,
            curve_steps=[10, 20],
            curve_seconds=[1.0, 2.0],
            curve_accuracies=[accuracy / 2, accuracy],
        )
        for method, read in accuracies.items()
        for seed, accuracy in enumerate(read)
    ]
    (found,) = compare(records, no_details)
    return found


def of_kind(axes, kind):
    return [drawn for drawn in axes.containers if isinstance(drawn, kind)]


def test_a_point_stands_at_cost_and_accuracy_with_its_range(comparison):
    """bsr: 40 MiB, mean of 0.5 and 0.8, from the least to the largest."""
    canvas = accuracy_points.accuracy_against(comparison, "peak_counted_bytes", MEMORY)
    bars = of_kind(canvas.axes[0], ErrorbarContainer)
    places = {bar.get_label(): bar.lines[0].get_xydata().tolist() for bar in bars}
    (segment,) = next(bar for bar in bars if bar.get_label() == "bsr").lines[2][0].get_segments()

    assert places == {
        "full": [[100.0, pytest.approx(0.85)]],
        "bsr": [[40.0, pytest.approx(0.65)]],
    }
    assert segment[:, 1].tolist() == pytest.approx([0.5, 0.8])


def test_the_front_runs_from_the_cheapest_to_the_most_accurate(comparison):
    canvas = accuracy_points.accuracy_against(comparison, "peak_counted_bytes", MEMORY)
    (front,) = [line for line in canvas.axes[0].lines if line.get_label() == "Pareto front"]

    assert front.get_xdata().tolist() == [40.0, 100.0]
    assert front.get_ydata().tolist() == pytest.approx([0.65, 0.85])


def test_an_axis_is_called_by_what_lies_along_it(comparison):
    axes = accuracy_points.accuracy_against(comparison, "peak_counted_bytes", MEMORY).axes[0]

    assert (axes.get_xlabel(), axes.get_ylabel()) == ("memory (MiB)", "test accuracy")


def test_a_bar_is_as_long_as_its_ratio(comparison):
    canvas = ratios(comparison, {"peak_counted_bytes": MEMORY})
    (bars,) = of_kind(canvas.axes[0], BarContainer)

    assert [bar.get_width() for bar in bars] == pytest.approx([1.0, 0.4])
    assert bars.errorbar is None  # bytes have no interval


@pytest.mark.parametrize(
    ("deviation", "ends"),
    [(0.1, (math.exp(-0.2484), math.exp(0.2484))), (1.0, (math.exp(-2.484), 3.0))],
)
def test_bars_of_times_have_their_intervals(make, no_details, deviation, ends):
    """Student's 4.303 times the deviation / sqrt(3) to both sides; at most 3 times the bar."""
    times = {"full": [1.0] * 3, "bsr": [math.exp(x * deviation) for x in (-1, 0, 1)]}
    (comparison,) = compare(
        [make(name, step_seconds=read) for name, read in times.items()], no_details
    )
    canvas = ratios(comparison, {"step_seconds": TIME})
    (bars,) = of_kind(canvas.axes[0], BarContainer)
    full, bsr = bars.errorbar.lines[2][0].get_segments()

    assert full[:, 0].tolist() == [1.0, 1.0]
    assert bsr[:, 0].tolist() == pytest.approx(ends, rel=1e-3)


def test_the_parts_of_a_peak_stand_end_to_end(comparison):
    """Weights from 0 on, then saved activations; the number behind them is the whole."""
    axes = memory_figures.parts_at_peak(comparison).axes[0]
    parts = {
        bars.get_label(): [(bar.get_x(), bar.get_width()) for bar in bars]
        for bars in of_kind(axes, BarContainer)
    }

    assert parts == {
        "weights": [(0.0, 70.0), (0.0, 30.0)],
        "saved activations": [(70.0, 30.0), (30.0, 10.0)],
    }
    assert [text.get_text() for text in axes.texts] == ["100", "40"]


@pytest.mark.parametrize(
    ("figure", "along", "expected"),
    [
        ("curve-steps", "curve_steps", [10.0, 20.0]),
        ("curve-seconds", "curve_seconds", [1.0, 2.0]),
    ],
)
def test_a_curve_is_the_mean_over_seeds(figure, along, expected, comparison):
    axes = training_figures.curves(comparison, {along: FigurePart(figure, "along")}).axes[0]
    lines = {line.get_label(): line for line in axes.lines}

    assert lines["bsr"].get_xdata().tolist() == expected
    assert lines["bsr"].get_ydata().tolist() == pytest.approx([0.325, 0.65])
    assert axes.get_xlabel() == "along"
