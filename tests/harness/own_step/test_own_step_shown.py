"""How the numbers of a step of one's own are shown."""

from io import StringIO
from types import SimpleNamespace

from bsrbench import profile
from bsrbench.reports.figures.palette import CATEGORY_COLOURS


def test_it_draws_itself(own):
    found = profile(*own[::2], repeats=1)

    drawn = found._repr_html_()

    assert "peak memory (counted): " in str(found)
    assert drawn.count("<tr>") == len(found.rows())
    for category, size in found.at_peak_bytes.items():
        colour = f"background:{CATEGORY_COLOURS[category]}"
        assert drawn.count(colour) == (2 if size else 0)  # in the bar, in its legend


def test_it_shows_the_same_lines_at_a_prompt(own):
    found, said = profile(*own[::2], repeats=1), StringIO()
    found._repr_pretty_(SimpleNamespace(text=said.write), False)

    assert said.getvalue() == str(found)
