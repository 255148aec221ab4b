"""Names that act, or are too long, are only names in every document a person reads."""

import csv
import io

import pytest
from rich.console import Console

from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.documents import (
    contrast_document,
    markdown_report,
    terminal_table,
    write_report,
)
from bsrbench.reports.wording.safe_text import in_figure, on_one_line, shortened, shortened_apart

MIB = 2**20
LONG = "L" * 3000
ACTING = "ctrl\x07\x1b[31mred\u202etxt\nnext\tend"


@pytest.fixture
def strange(make):
    """Return profiles and trainings of rows whose names do what names may not."""
    names = (LONG, r"$\bad{$", "_hidden", "=SUM(1)", "&copy; ~~x~~ $y$", "-1+2")
    return [
        row
        for name in ("full", "bsr", *names)
        for row in (
            make(name, peak_counted_bytes=40 * MIB, step_flop=3e8, step_seconds=[0.4, 0.5, 0.4]),
            make(name, accuracy_top1=0.5, curve_steps=[1, 2], curve_accuracies=[0.1, 0.5]),
        )
    ]


def test_a_line_neither_moves_the_cursor_nor_turns_around():
    assert on_one_line(ACTING) == r"ctrl\x07\x1b[31mred\u202etxt next end"
    assert on_one_line("مرحبا 名前 👩\u200d🔬") == "مرحبا 名前 👩\u200d🔬"


def test_the_middle_of_a_long_name_is_cut_out():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcde…hijk"


def test_shortened_names_that_would_be_alike_show_where_they_differ():
    """Their middles cut out, three are one. They differ from place 34 on: shown are 28 to 37."""
    blocks = 'bsr+int8 (bsr={"trained_blocks": [NN], "drop_at": []})'
    names = [blocks.replace("NN", number) for number in ("11", "1, 2", "3")] + ["full"]
    short = shortened_apart(names, 20)

    assert len({shortened(name, 20) for name in names}) == 2
    assert short == [
        'bsr+int8…ks": [11],…',
        'bsr+int8…ks": [1, 2…',
        'bsr+int8…ks": [3], …',
        "full",
    ]
    assert max(map(len, short)) == 20
    assert shortened_apart(["same" * 9, "same" * 9], 20) == [shortened("same" * 9, 20)] * 2


def test_a_figure_takes_no_name_for_a_formula_and_hides_none():
    assert in_figure("$x$") == r"\$x\$"
    assert in_figure("_mine") == " _mine"


@pytest.mark.filterwarnings("error")
def test_a_report_over_strange_names_is_whole(strange, no_details, tmp_path):
    """Warnings are errors: a long name would leave no room for the axes."""
    write_report.write(strange, tmp_path, ACTING, no_details)
    text = (tmp_path / "report.md").read_text()

    assert not {character for character in text if ord(character) < 32} - {"\n"}
    assert (tmp_path / "accuracy-memory.png").stat().st_size > 10_000


def test_the_terminal_shows_every_column_whatever_the_names(strange, no_details):
    console = Console(width=80, file=io.StringIO(), record=True)
    terminal_table.show(compare(strange, no_details), console)
    printed = console.export_text()
    (line,) = [line for line in printed.splitlines() if line.startswith(" bsr †")]

    assert line.split()[2:] == ["0.500", "40.0", "1.00×", "0.30", "1.00×", "~400", "1.00×", "–"]
    assert max(map(len, printed.splitlines()[:12])) <= 80
    assert not {character for character in printed if ord(character) < 32} - {"\n"}


def test_markdown_shows_what_it_would_take_for_marks():
    assert markdown_report.escape("&copy; ~~x~~ $y$") == r"\&copy; \~\~x\~\~ \$y\$"
    assert markdown_report.lines("t", ["-1+2", "+x"])[1] == "- \\-1+2\n- \\+x"


def test_no_cell_of_a_contrast_is_a_formula(strange, no_details):
    (comparison,) = compare(strange, no_details)
    pair = Pair(comparison.find("=SUM(1)"), comparison.find("bsr"), "here")
    text = contrast_document.to_csv(contrast([pair], no_details))

    assert {line["new_row"] for line in csv.DictReader(io.StringIO(text))} == {"'=SUM(1)"}
