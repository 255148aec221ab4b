"""The figures of the interactive page, in a headless Chromium."""

import pytest

pytestmark = pytest.mark.browser

MIB = 2**20


def test_figures_tell_their_values_to_pointer_and_keyboard(page):
    scatter = page.locator("figure", has_text="Accuracy against cost").locator("svg.chart")
    first = scatter.locator(".point").first
    first.wait_for()
    assert scatter.locator(".point").count() == 2
    assert first.get_attribute("aria-label") == (
        "full, accuracy 0.812 [0.750, 0.875], counted 100.0 MiB"
    )
    first.hover()
    assert "100.0 MiB" in page.locator("#page ~ .tip").inner_text()
    first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("bsr")
    assert "40.0 MiB" in page.locator("#page ~ .tip").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#page ~ .tip").is_hidden()


def test_figures_follow_filter_and_cost(page):
    card = page.locator("figure", has_text="Accuracy against cost")
    card.get_by_label("Cost").select_option("step ms")
    assert "step 400 ms [200, 400]" in card.locator(".point").first.get_attribute("aria-label")
    page.locator(".filter input").fill("bsr")
    card.locator(".point").nth(1).wait_for(state="detached")

    assert card.locator(".point").count() == 1


def test_every_figure_of_the_records_is_there(page):
    headings = page.locator("figure h4").all_inner_texts()

    assert headings == [
        "Accuracy against cost",
        "Composition of the peak",
        "Validation accuracy against steps",
        "Validation accuracy against seconds",
        "Memory through one step",
        "Memory at the peak, block by block",
    ]
    peak = page.locator("figure", has_text="Memory through one step").locator(".point")
    texts = [peak.nth(place).get_attribute("aria-label") for place in range(peak.count())]
    assert "bsr: peak, 40.0 MiB after operator 5, aten.mm in blocks.0" in texts
    blocks = page.locator("figure", has_text="block by block").locator(".point")
    texts = [blocks.nth(place).get_attribute("aria-label") for place in range(blocks.count())]
    assert "bsr, block 1: 3.0 MiB" in texts
    curves = page.locator("figure", has_text="against seconds").locator(".point")
    assert curves.nth(1).get_attribute("aria-label") == (
        "full, after 20 steps, 2.0 s, accuracy 0.812, mean of 2 seeds [0.750, 0.875]"
    )


def test_rows_are_chosen_for_the_figures_that_look_inside(page):
    legend = page.locator("figure", has_text="Memory through one step").locator(".legend")
    assert legend.inner_text().split() == ["full", "bsr"]
    page.get_by_text("Rows in the figures of one step").click()
    page.locator(".chooser").get_by_label("full").uncheck()

    assert legend.inner_text().split() == ["bsr"]


def test_a_method_has_one_colour_in_every_figure(page):
    colours = page.locator(".dot").first.evaluate("node => getComputedStyle(node).color")
    found = page.locator('.point[aria-label^="full"]:not(.part)').evaluate_all(
        "nodes => [...new Set(nodes.map((node) => getComputedStyle(node).fill))]"
    )

    assert found == [colours]


def test_several_comparisons_have_contents_and_folded_figures(make_trial, write_page, look, parts):
    rows = [
        make_trial(name, peak_counted_bytes=batch * MIB, workload={"batch": batch}, **parts)
        for batch in range(1, 13)
        for name in ("bsr", "full")
    ]
    page = look(write_page(rows))
    links = page.get_by_role("navigation").get_by_role("link")
    assert links.count() == 12
    links.nth(11).click()
    assert "batch 12" in page.locator("h2:target").inner_text()
    last = page.locator("section").nth(11)
    assert last.locator("svg.chart").count() == 0
    last.get_by_text("Figures").click()
    last.locator("svg.chart").wait_for()

    assert "batch 12" in page.locator("h2:target").inner_text()


def test_paper_has_the_tables_and_figures_in_light_colours(make_trial, write_page, look, parts):
    rows = [
        make_trial(name, peak_counted_bytes=batch * MIB, workload={"batch": batch}, **parts)
        for batch in (1, 2, 3, 4)
        for name in ("bsr", "full")
    ]
    page = look(write_page(rows), scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")

    assert page.locator("svg.chart:visible").count() == 4
    assert not page.locator(".controls").first.is_visible()
    assert page.locator("table.rows").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(26, 29, 33)"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.figures[open]").count() == 0
