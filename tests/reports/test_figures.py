"""What is drawn of which records, and that a method looks the same everywhere."""

import re

import pytest
from matplotlib.figure import Figure as Canvas

from bsrbench.harness.records.sidecar import NO_SIDECAR, sidecar_from
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.excerpt import excerpt, left_out
from bsrbench.reports.documents import write_report
from bsrbench.reports.figures import all_figures, palette, row_lines
from bsrbench.reports.figures.memory_figures import MOST_POINTS, block_bytes, drawn_places
from bsrbench.reports.wording import notes
from tests.trial_records import no_details

MIB = 2**20
SHIPPED = [name for name in palette.COLOUR_OF if "+" not in name]


def names(folder, ending="svg"):
    return {path.stem for path in folder.glob(f"*.{ending}")}


@pytest.fixture
def records(make):
    made = []
    for place, method in enumerate(("full", "bsr", "head"), start=1):
        made.append(
            make(
                method,
                peak_counted_bytes=place * MIB,
                peak_allocated_bytes=place * MIB,
                paper_convention_bytes=place * MIB,
                weights_at_peak_bytes=place * MIB,
                step_flop=place * 1e9,
                step_seconds=[0.1 * place] * 3,
            )
        )
        made += [
            make(
                method,
                seed=seed,
                accuracy_top1=0.1 * place + 0.01 * seed,
                curve_steps=[10, 20],
                curve_seconds=[1.0 * place, 2.0 * place],
                curve_accuracies=[0.1, 0.2],
            )
            for seed in (0, 1)
        ]
    return made


def test_every_figure_is_drawn_in_every_form(records, make, tmp_path):
    other = {"workload": {"optimizer": "adamw"}}
    records.append(make(weights_at_peak_bytes=MIB, **other))
    blocks = sidecar_from({"counted": {"held_by_module": {"blocks.0.mlp": MIB}}})
    drawn = all_figures.write_all(compare(records, lambda _: blocks), tmp_path)
    everything = {name for name, _, _ in all_figures.DRAWINGS} - {"memory-timeline", "memory-time"}

    assert {figure.name for figure in drawn} == everything
    assert names(tmp_path) == names(tmp_path, "png") == names(tmp_path, "pdf") == everything


@pytest.mark.parametrize("has_reference", [True, False])
def test_times_of_two_round_groups_are_drawn_as_ratios_to_the_reference(
    has_reference, records, make, tmp_path
):
    """Without one there is nothing that they could be drawn against."""
    other = make("bias", group="h", step_seconds=[1.0], peak_counted_bytes=MIB)
    kept = [r for r in records if has_reference or r.spec.method != "full"]
    more = [*kept, other, make("bias", accuracy_top1=0.5)]
    drawn = {f.name: f.caption for f in all_figures.write_all(compare(more, no_details), tmp_path)}

    assert "accuracy-memory" in drawn
    assert ("accuracy-time" in drawn) == has_reference
    assert ("not timed in turns with it: bias." in drawn.get("accuracy-time", "")) == has_reference


def test_batches_share_a_figure(make, tmp_path):
    records = [
        make(method, peak_counted_bytes=batch * MIB, workload={"batch": batch})
        for method in ("full", "bsr")
        for batch in (1, 2, 4)
    ]
    drawn = all_figures.write_all(compare(records, no_details), tmp_path)

    assert "batch-memory" in {figure.name for figure in drawn}
    assert "batch-time" not in names(tmp_path)  # nothing was timed


def test_many_comparisons_are_not_drawn_one_by_one(make, tmp_path):
    records = [
        make("full", peak_counted_bytes=MIB, workload={"model": f"test_vit{number}"})
        for number in range(all_figures.MOST_DRAWN + 1)
    ]

    assert all_figures.write_all(compare(records, no_details), tmp_path) == []


def test_bytes_of_modules_are_added_up_block_by_block():
    modules = {"blocks.0.attn.qkv": 3, "module.blocks.0.mlp": 4, "blocks.11.mlp": 5, "norm": 7}

    assert block_bytes(sidecar_from({"counted": {"held_by_module": modules}})) == {0: 7, 11: 5}
    assert block_bytes(NO_SIDECAR) == {}


def drawn(row):
    (line,) = draw(row)
    return line.get_color(), line.get_marker(), line.get_linestyle(), line.get_markerfacecolor()


def draw(row):
    axes = Canvas().subplots()
    row_lines.draw_line(axes, row, row.label, [1, 2], [1, 2])
    return axes.get_lines()


def test_a_method_has_one_colour_and_mark_whatever_its_options(make_trial, no_details):
    """Options, axes and what tells rows apart change neither; nor does a bracket in a file's name.

    Rows with options or axes are hollow.
    """
    file = "./a (b) [c]/mine.py:Mine"
    trials = [
        make_trial(file, machine="a"),
        make_trial(file, machine="b"),
        make_trial(file, machine="a", options={"x": [1]}),
        make_trial(file, machine="a", workload={"precision": "bf16"}),
    ]
    (comparison,) = compare(trials, no_details)
    colour, mark = palette.colour_of(file), palette.mark_of(file)

    assert [row.label for row in comparison.rows] == [
        f'"{file}" [machine a]',
        f'"{file}" [machine b]',
        f'"{file}" (x=[1])',
        f'"{file}" (bf16)',
    ]
    assert [drawn(row) for row in comparison.rows] == [
        *[(colour, mark, "-", colour)] * 2,
        *[(colour, mark, "--", "none")] * 2,
    ]


def test_shipped_methods_are_told_apart():
    looks = {(palette.colour_of(name), palette.mark_of(name)) for name in palette.COLOUR_OF}

    assert len({palette.colour_of(name) for name in SHIPPED}) == len(SHIPPED)
    assert len(looks) == len(palette.COLOUR_OF)


def test_an_unknown_method_has_a_colour_that_is_always_the_same():
    """CRC-32 of 'mine' is 1772671891, of which 9 leaves 4."""
    assert palette.colour_of("mine") == palette.OTHER_COLOURS[4]
    assert re.fullmatch("#[0-9a-f]{6}", palette.colour_of("名前"))


def test_of_thousands_of_rows_the_ones_that_matter_are_shown(make, tmp_path):
    """Row 900 is on the front: nothing costs less."""
    records = [
        make(f"m{number}", peak_counted_bytes=(1 if number == 900 else 2) * MIB)
        for number in range(1000)
    ]
    records += [make(f"m{number}", accuracy_top1=0.5) for number in range(1000)]
    records += [make("bsr", peak_counted_bytes=3 * MIB)]
    (comparison,) = write_report.write(records, tmp_path, "t", no_details)
    shown = excerpt(comparison, 10)

    assert [row.label for row in shown.rows] == [
        *(f"m{number}" for number in range(8)),
        *("m900", "bsr"),
    ]
    assert "991 of 1,001 rows" in left_out(comparison, shown)[0]
    assert "501 of 1,001 rows are not shown" in (tmp_path / "report.md").read_text()
    assert len((tmp_path / "comparison.csv").read_text().splitlines()) == 1002


def test_what_failed_is_a_row_in_every_table(make, tmp_path):
    records = [make("full", peak_counted_bytes=MIB), make("bsr", status="timeout")]
    (comparison,) = write_report.write(records, tmp_path, "t", no_details)

    assert notes.failures(comparison) == ["bsr, seed 0: timeout (why)"]
    for name in ("report.md", "report.tex", "comparison.csv"):
        assert "timeout (why)" in (tmp_path / name).read_text()


def test_a_long_line_keeps_every_stretch_s_least_and_largest():
    sizes = [float((place * 7919) % 10_007) for place in range(11_000)]

    places = drawn_places(sizes)
    drawn = [sizes[place] for place in places]

    assert len(places) <= MOST_POINTS
    assert list(places) == sorted(set(places))
    assert (places[0], places[-1]) == (0, 10_999)
    for start in range(0, 11_000, 22):  # what a stretch is for so many
        stretch = sizes[start : start + 22]
        assert {min(stretch), max(stretch)} <= set(drawn)
    assert list(drawn_places(sizes[:2000])) == list(range(2000))
