"""Ratios of times have their intervals on a terminal of any width, and in a file."""

import io
import math

import pytest
from rich.console import Console

from bsrbench.reports import units
from bsrbench.reports.documents import latex_tables, terminal_table, write_report
from bsrbench.reports.wording import notes
from bsrbench.reports.wording.timing_notes import COVERAGE
from tests.reports.one_comparison import only
from tests.trial_records import no_details

MIB = 2**20
SAID = f"{COVERAGE[0].upper()}{COVERAGE[1:]}."


@pytest.fixture
def timed(make):
    """Return rows of which bsr takes 0.5, 0.5 and 0.25 of the time of full in three rounds.

    The logarithms are -0.6931, -0.6931 and -1.3863: mean -0.9242, standard deviation 0.4002, so
    that of the mean is 0.2311. Student's t at 95 % with two degrees of freedom is 4.3027, so the
    interval reaches 0.9942 to each side: 0.40 [0.15, 1.07]. Its farther end is exp(0.9942) = 2.7026
    times the ratio.
    """

    def made(rounds=3):
        work = {"peak_counted_bytes": MIB, "step_flop": 1e9, "trained_parameters": 10**6}
        full = make("full", step_seconds=[0.2, 0.2, 0.4][:rounds], **work)
        return [full, make("bsr", step_seconds=[0.1] * rounds, **work)]

    return made


def printed(records, width):
    console = Console(width=width, file=io.StringIO())
    terminal_table.show([only(records)], console)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("width", "shown", "omitted"),
    [
        (200, "0.40× [0.15, 1.07]", "nothing"),
        (90, "0.40× [0.15, 1.07]", "img/s"),
        (73, "0.40× ±171%", "img/s"),
        (66, "0.40× ±171%", "trained"),
    ],
)
def test_a_ratio_of_times_has_its_interval_at_every_width(timed, width, shown, omitted):
    text = printed(timed(), width)

    assert shown in text
    assert omitted not in text
    assert ("± 95 %: distance to the farther end" in text) == ("±" in shown)
    assert COVERAGE in text.splitlines()


def test_without_an_interval_there_is_no_reach_and_no_note(timed):
    """Two rounds give 0.5 and no interval."""
    text = printed(timed(rounds=2), 66)

    assert "0.50×    –" in text
    assert COVERAGE not in text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.97, 1.01, "±3%"),  # the lower end is farther away
        (0.9999, 1.0301, "±4%"),  # 3.01 %, rounded up
        (0.97, 1.03, "±3%"),  # 3.0000000000000027 % in floating-point numbers
        (0.9, 12.34, "±1,134%"),
    ],
)
def test_a_reach_is_the_larger_side_rounded_up(low, high, expected):
    assert units.reach(low, 1.0, high) == expected
    assert units.reach(2 * low, 2.0, 2 * high) == expected


def test_the_reach_of_the_example_is_by_arithmetic():
    assert units.reach(0.1, 1.0, math.exp(0.9942)) == "±171%"


def test_every_report_says_once_what_an_interval_covers(timed, tmp_path):
    write_report.write(timed(), tmp_path, "t", no_details)
    comparison = only(timed())
    latex_tables.write([comparison], "t", tmp_path / "again.tex")

    assert notes.summary(comparison)[0].count(SAID) == 1
    assert (tmp_path / "report.html").read_text().count(SAID) == 1
    assert (tmp_path / "report.md").read_text().count(SAID) == 1
    assert (tmp_path / "again.tex").read_text().count(latex_tables.escape(COVERAGE)) == 1
