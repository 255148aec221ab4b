"""How the interactive page looks, in a headless Chromium: contrasts, sizes and strange names."""

import re
from pathlib import Path

import pytest

from tests.reports.page_elements import column, detail_of, heading, labels

MIB = 2**20
STRANGE = "<script>alert(1)</script>|&%\\*_` 名前 " + "long" * 60


# Every text that can be seen, with its contrast to the nearest background that is not clear.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (part) =>
    part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) =>
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *, body")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!own || !node.getClientRects().length || node.closest(".spoken, option")) continue;
    const style = getComputedStyle(node);
    const ink = numbers(node.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const pair = [luminance(ink), luminance(behind(node))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), node.tagName, node.textContent.slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 375])
def test_every_text_stands_out_from_what_is_behind_it(
    records, write_page, look, sidecar, scheme, width
):
    page = look(write_page(records, {"full": sidecar}), scheme=scheme, width=width)
    page.get_by_text("Columns", exact=True).click()
    detail_of(page, "full").wait_for()
    found = page.evaluate(CONTRASTS)

    assert len(found) > 200
    assert [bad for bad in found if bad[0] < 4.5] == []


def test_the_colours_can_be_turned_around(page):
    background = "getComputedStyle(document.body).backgroundColor"
    button = page.get_by_role("button", name="Colours:")
    light = page.evaluate(background)
    button.click()
    assert page.evaluate(background) == light
    button.click()

    assert button.inner_text() == "Colours: dark"
    assert page.evaluate(background) != light
    assert [bad for bad in page.evaluate(CONTRASTS) if bad[0] < 4.5] == []


@pytest.mark.parametrize("width", [375, 1400])
def test_the_page_itself_never_scrolls_sideways(
    make_trial, records, write_page, look, sidecar, width
):
    strange = make_trial(STRANGE, peak_counted_bytes=MIB)
    page = look(write_page([*records, strange], {"full": sidecar}), width=width)
    detail_of(page, "full").wait_for()
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("button", name="All", exact=True).click()

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_strange_names_are_only_names(make_trial, write_page, look, sidecar, parts):
    values = {"peak_counted_bytes": MIB, **parts}
    rows = [make_trial(STRANGE, **values, options={"<b>": "</script>"}), make_trial("full")]
    page = look(write_page(rows, {STRANGE: sidecar}, title=STRANGE))
    (shown,) = [text for text in labels(page) if text != "full"]
    detail_of(page, re.compile("名前")).wait_for()

    assert r"<script>alert(1)</script>|&%\\*_`" in shown  # quoted, as a label is read back
    assert "名前" in shown
    assert page.locator("script").count() == 2
    assert page.locator("b").count() == 0
    assert page.locator("h1").inner_text().startswith("<script>alert(1)</script>")


def test_one_row_is_a_page(make_trial, write_page, look):
    page = look(write_page([make_trial("head", peak_counted_bytes=MIB)]))

    assert labels(page) == ["head"]
    assert column(page, "peak_counted_bytes") == ["1.0"]
    assert column(page, "peak_counted_bytes/ratio") == ["1.00×"]
    assert page.locator("nav").count() == 0


def test_no_record_at_all_is_said(write_page, look):
    page = look(write_page([]))

    assert "There are no records to compare." in page.locator("main").inner_text()


def test_thousands_of_rows_are_drawn_by_the_hundred(make_trial, write_page, look):
    rows = [
        make_trial("sparse", options={"share": place}, peak_counted_bytes=(place + 1) * MIB)
        for place in range(2500)
    ]
    path = write_page(rows)
    page = look(path)
    assert len(labels(page)) == 300
    assert "2,500 rows" in page.locator("header").inner_text()
    assert "records/" in page.locator("header").inner_text()
    page.get_by_role("button", name="Draw 300 more").click()
    assert len(labels(page)) == 600
    heading(page, "peak_counted_bytes").locator("button").click()
    heading(page, "peak_counted_bytes").locator("button").click()
    assert labels(page)[0] == "sparse (share=2499)"
    page.locator(".filter input").fill("share=1234")
    assert labels(page) == ["sparse (share=1234)"]
    detail_of(page, "sparse (share=1234)").wait_for()

    assert path.stat().st_size < 3_000_000


def test_without_javascript_the_page_names_the_other_files(browser, write_page, make_trial):
    path: Path = write_page([make_trial("bsr")])
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    text = page.locator("body").inner_text()
    context.close()

    assert "report.md and comparison.csv" in text
