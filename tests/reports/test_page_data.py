"""What goes into the interactive page, and that nothing else can act there."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import by_generation, time_ratio
from bsrbench.harness.records.remarks import AbsenceKind
from bsrbench.harness.records.sidecar import NO_SIDECAR, sidecar_from
from bsrbench.reports.compare.comparison import Comparison, compare
from bsrbench.reports.compare.statistics import median_and_quartiles
from bsrbench.reports.documents import html_report
from bsrbench.reports.figures.contrast_colours import contrast, legible
from bsrbench.reports.page import page_data
from bsrbench.reports.page.page_columns import NUMBERS, TEXTS
from bsrbench.reports.page.page_details import blocks, timeline
from bsrbench.reports.page.page_rows import BACKGROUNDS
from tests.trial_records import absence, no_details

MIB = 2**20
STEPS = {"full": [0.2, 0.2, 0.9] * 2 + [0.4] * 3, "bsr": [0.1] * 9}
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


def data_of(records, details=no_details):
    text = page_data.page_text(compare(records, details), "t")
    return json.loads(text, parse_constant=pytest.fail)


def rows_of(data):
    (comparison,) = data["comparisons"]
    return {row["label"]: row for row in comparison["rows"]}


def offered(data):
    return [name for name, _ in data["comparisons"][0]["columns"]]


def test_visits_are_medians_of_their_samples(make_trial):
    """0.9 is an outlier in a visit of 0.2, 0.2, 0.9."""
    data = data_of([make_trial(name, step_seconds=times) for name, times in STEPS.items()])

    assert rows_of(data)["full"]["visits"] == {"step_seconds": {"0": [0.2], "1": [0.2], "2": [0.4]}}


def test_other_times_are_shared_out_over_the_same_visits(make_trial):
    """9 steps are 3 visits: 6 samples are 2 a visit, 7 cannot be shared out evenly."""
    six, seven = [1.0, 3.0, 2.0, 2.0, 5.0, 7.0], [1.0] * 7
    times = {"step_seconds": STEPS["bsr"], "forward_seconds": six, "backward_seconds": seven}
    visits = rows_of(data_of([make_trial("bsr", **times)]))["bsr"]["visits"]

    assert visits == {
        "step_seconds": {"0": [0.1], "1": [0.1], "2": [0.1]},
        "forward_seconds": {"0": [2], "1": [2], "2": [6]},
    }


def test_quantiles_reach_as_far_as_rounds_go(make_trial):
    """Student's t, two-sided at 95 %: 12.706 and 4.303 for 1 and 2 degrees of freedom."""
    data = data_of([make_trial("bsr", step_seconds=STEPS["bsr"])])

    assert data["confidence"] == 0.95
    assert data["quantiles"] == [None, pytest.approx(12.7062, 1e-4), pytest.approx(4.30265, 1e-4)]


def test_the_centre_of_ratios_is_that_of_the_other_documents():
    """Ratios 2, 2, 4 have the geometric mean 2^(4/3)."""
    found = time_ratio(*(by_generation(STEPS[name], 3) for name in ("full", "bsr")))

    assert found.centre == pytest.approx(2 ** (4 / 3))
    assert found.rounds == 3


def test_a_metric_without_any_value_has_no_column(make_trial):
    columns = offered(data_of([make_trial("bsr", peak_counted_bytes=MIB)]))

    assert {"peak_counted_bytes", "peak_counted_bytes/ratio"} <= set(columns)
    assert not {"step_seconds", "step_seconds/ratio", "accuracy_top1", "status"} & set(columns)


def test_axes_are_on_at_first_where_rows_differ_in_them(make_trial):
    same = data_of([make_trial("bsr"), make_trial("full")])
    differ = data_of([make_trial("bsr"), make_trial("full", workload={"precision": "bf16"})])

    assert dict(same["comparisons"][0]["columns"])["precision"] is False
    assert dict(differ["comparisons"][0]["columns"])["precision"] is True


@pytest.mark.parametrize(
    ("methods", "baseline"),
    [(("head", "full", "bsr"), "bsr"), (("a", "full"), "full"), ("ab", "a")],
)
def test_the_first_baseline_is_bsr_else_full_else_the_first_row(make_trial, methods, baseline):
    (comparison,) = data_of([make_trial(name) for name in methods])["comparisons"]

    assert comparison["rows"][comparison["baseline"]]["label"] == baseline


def test_every_column_has_a_definition():
    assert all(column.definition() for column in NUMBERS)
    assert all(column.definition for column in TEXTS)


def test_every_metric_has_a_column_but_those_a_figure_draws():
    shown = {column.metric for column in NUMBERS} | {column.name for column in TEXTS}
    drawn = {"curve_steps", "curve_seconds", "curve_accuracies"}
    beside = {"accuracy_by_task", "validation_accuracy_top1"}  # a table; only tries have the other

    assert set(METRICS) - shown == drawn | beside


def test_the_reason_of_the_trial_that_was_asked_counts(make_trial):
    """A training was not asked for the joules that the profile could not read."""
    profile = make_trial("bsr", peak_counted_bytes=MIB)
    training = make_trial("bsr", accuracy_top1=0.5)
    profile.missing["joules_per_image"] = absence("no counter")
    not_requested = absence("this trial only trains", AbsenceKind.NOT_REQUESTED)
    training.missing["joules_per_image"] = not_requested
    data = data_of([training, profile])
    missing = rows_of(data)["bsr"]["missing"]

    assert data["shared"][missing["joules_per_image"]] == "no counter"
    assert "peak_counted_bytes" not in missing


def test_what_trials_share_stands_once(make_trial):
    data = data_of([make_trial(name, seed=seed) for name in ("bsr", "full") for seed in (0, 1)])

    assert len({json.dumps(value) for value in data["shared"]}) == len(data["shared"])
    assert data["shared"].count("c0ffee") == 1


def test_bytes_are_summed_by_block_and_all_else_stands_last():
    modules = {
        "": {"weights": 1},
        "blocks.0.attn": {"weights": 10, "saved_activations": 5},
        "blocks.0.mlp": {"weights": 20},
        "model.blocks.2.mlp": {"saved_activations": 7},
        "head": {"weights": 2},
    }
    found = blocks(sidecar_from({"counted": {"modules_at_peak": modules}}))

    assert found == {"weights": [30, 0, 0, 3], "saved_activations": [5, 0, 7, 0]}
    assert blocks(NO_SIDECAR) is None
    without = {"counted": {"modules_at_peak": {"head": {"weights": 1}}}}
    assert blocks(sidecar_from(without)) is None


def test_a_timeline_says_where_its_phases_begin():
    found = timeline(sidecar_from({"counted": {"timeline": TIMELINE}}))

    assert found["phases"] == [[0, "forward"], [2, "backward"]]
    assert timeline(NO_SIDECAR) is None


def test_of_many_rows_only_the_named_ones_bring_their_timeline(make_trial, monkeypatch):
    monkeypatch.setattr(page_data, "TIMELINES", 2)
    records = [make_trial(name) for name in ("bsr", "full", "head")]
    sidecar = sidecar_from({"counted": {"timeline": TIMELINE}})
    rows = rows_of(data_of(records, lambda _: sidecar))

    assert [name for name, row in rows.items() if row["timeline"]] == ["full", "bsr"]
    assert len(rows) == 3


def test_of_too_many_rows_only_the_table_goes_in_and_no_sidecar_is_read(make_trial, monkeypatch):
    monkeypatch.setattr(page_data, "DETAILED_ROWS", 2)
    data = data_of([make_trial(name) for name in ("bsr", "full", "head")], pytest.fail)

    assert "3 rows (more than 2)" in data["leftOut"]
    assert not any("trials" in row for row in rows_of(data).values())
    assert data["shared"] == []


def test_long_lists_say_where_the_whole_is():
    lines = page_data.listed(["x" * 1000, *map(str, range(1000))])

    assert len(lines) == page_data.LISTED_LINES + 1
    assert lines[0].endswith("… (whole in report.md)")
    assert lines[-1] == "and 901 more, in report.md"


def test_no_name_ends_the_data(make_trial, write_page):
    name = "</script><script>alert(1)</script>"
    text = write_page([make_trial(name, peak_counted_bytes=MIB)], title=name).read_text()

    assert text.count("<script") == 2
    assert text.count("</script") == 2
    assert "alert(1)</" not in text


def test_only_our_own_script_and_style_may_act(write_page, make_trial):
    text = write_page([make_trial("bsr")]).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    parts = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
    for kind, found in (
        ("script-src", re.search(r'<script id="code">(.*?)</script>', text, re.DOTALL)[1]),
        ("style-src", re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]),
    ):
        digest = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()

        assert parts[kind] == [f"'sha256-{digest}'"]
    assert parts["default-src"] == ["'none'"]


def test_every_script_of_the_folder_is_part_of_the_page():
    assert sorted(path.name for path in html_report.FOLDER.glob("*.js")) == sorted(
        html_report.SCRIPTS
    )


@pytest.mark.parametrize("comparisons", [[], [Comparison((), None, no_details)]])
def test_nothing_to_compare_makes_a_page(comparisons, tmp_path):
    html_report.write(comparisons, "t", tmp_path / "report.html")

    assert "report.md and comparison.csv" in (tmp_path / "report.html").read_text()


def test_contrast_is_that_of_wcag():
    """21 is white on black; #767676 is known as the lightest grey to reach 4.5 on white."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") > 4.5 > contrast("#777777", "#ffffff")


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("colour", ["#F0E442", "#000000", "#ffffff", "#0072B2"])
def test_colours_are_changed_only_as_far_as_they_must(colour, background):
    found = legible(colour, background)

    assert contrast(found, background) >= 3
    assert found == colour or contrast(found, background) < 4.2


def test_a_page_of_too_many_rows_keeps_the_named_ones_and_says_so(make_trial, monkeypatch):
    monkeypatch.setattr(page_data, "ON_PAGE", 10)
    monkeypatch.setattr(page_data, "DETAILED_ROWS", 10)
    others = [make_trial("sparse", options={"share": place}) for place in range(30)]
    last = [make_trial(name, peak_counted_bytes=MIB) for name in ("full", "bsr")]
    data = data_of([*others, *last])

    assert len(rows_of(data)) == 20  # no comparison shows fewer
    assert {"full", "bsr"} <= set(rows_of(data))
    assert "With 32 rows (more than 10) this page has only the table with 20" in data["leftOut"]
    assert "comparison.csv has all rows" in data["leftOut"]


def test_quartiles_are_those_of_numpy():
    draw = np.random.default_rng(0)
    for count in (1, 2, 3, 4, 5, 10, 33):
        samples = list(draw.normal(size=count))
        found = median_and_quartiles(samples)
        expected = np.quantile(samples, [0.5, 0.25, 0.75])

        assert [found.centre, found.low, found.high] == expected.tolist()
