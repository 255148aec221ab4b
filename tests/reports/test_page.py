"""The interactive page as somebody meets it, in a headless Chromium."""

import math
from urllib.parse import unquote

import pytest

from bsrbench.harness.records.sidecar import ClockDetail
from bsrbench.reports import units
from bsrbench.reports.compare.comparison import compare
from tests.reports.page_elements import column, detail_of, heading, labels
from tests.trial_records import altered

pytestmark = pytest.mark.browser

MIB = 2**20
GIGA = 10**9


def test_headings_sort_up_then_down_then_as_recorded(page):
    """The row without a value stands last either way."""
    assert labels(page) == ["full", "bsr", "head", "lora (rank=4)"]
    memory = heading(page, "peak_counted_bytes")
    orders = []
    for expected in (["bsr", "head", "full"], ["full", "head", "bsr"], ["full", "bsr", "head"]):
        memory.locator("button").click()
        orders.append(memory.get_attribute("aria-sort"))

        assert labels(page) == [*expected, "lora (rank=4)"]
    assert orders == ["ascending", "descending", "none"]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("BS", ["bsr"]),
        ("rank 4", ["lora (rank=4)"]),
        ("out memory", ["lora (rank=4)"]),
        ("zzz", []),
    ],
)
def test_the_filter_looks_into_name_options_and_status(page, words, left):
    page.locator(".filter input").fill(words)

    assert labels(page) == left
    assert page.get_by_role("status").inner_text().startswith(f"{len(left)} row")


def test_ratios_follow_the_baseline(page):
    """To bsr's 40 MiB: 100/40 = 2.5, 50/40 = 1.25. To full's 100: 40/100 = 0.4, 50/100 = 0.5."""
    name = "peak_counted_bytes/ratio"
    to_bsr = column(page, name)
    page.locator(".base select").select_option("full")
    to_full = column(page, name)

    assert to_bsr[:2] == ["2.50×", "1.00× (best)"]
    assert to_bsr[2:] == ["1.25×", "– a test"]
    assert to_full[0] == "1.00×"
    assert to_full[1:3] == ["0.40× (best)", "0.50×"]
    assert page.locator("tr.baseline .label").inner_text() == "full"
    assert "× full" in heading(page, name).inner_text()


def test_ratios_of_times_are_taken_round_by_round(page):
    """Ratios of the visits' medians 2, 2, 4: geometric mean 2^(4/3) = 2.52.

    Their logarithms deviate by ln 2 / √3, the mean's error is ln 2 / 3 = 0.231, times Student's
    4.303 (95 %, 2 degrees of freedom) 0.994: from 2.52 / 2.70 = 0.93 to 2.52 * 2.70 = 6.81.
    """
    assert column(page, "step_seconds/ratio")[0] == "2.52× [0.93, 6.81]"
    assert "95 %" in heading(page, "step_seconds/ratio").inner_text()


def test_ratios_of_process_generations_are_those_of_the_other_documents(
    make_trial, write_page, look
):
    """Medians of the logarithms 0.1, 0.3, 0.5: exp(0.3) = 1.35.

    Their deviation is 0.2, the mean's error 0.2 / √3, times Student's 4.303 0.497: from
    exp(-0.197) = 0.82 to exp(0.797) = 2.22.
    """
    logarithms = (0.0, 0.1, 5.0, 0.4, 0.3, 0.2, 0.5, -2.0, 0.6)
    timing = ClockDetail(generations={"step_seconds": (0, 0, 0, 1, 1, 1, 2, 2, 2)})
    times = {"full": [math.exp(x) for x in logarithms], "bsr": [1.0] * 9}
    records = [
        altered(make_trial(name, step_seconds=read), environment={"timing": timing})
        for name, read in times.items()
    ]
    page = look(write_page(records))

    assert column(page, "step_seconds/ratio")[0] == "1.35× [0.82, 2.22]"


def test_generations_beyond_the_planned_ones_add_no_degrees_of_freedom(
    make_trial, write_page, look, no_details
):
    """Logarithms 0.1, 0.3, 0.5, twice: exp(0.3) = 1.35, deviation √0.032, error 0.0730.

    Five generations were planned: Student's 2.776 (4 degrees of freedom) times the error is 0.203,
    from exp(0.097) = 1.10 to exp(0.503) = 1.65. With 5 degrees it would be from 1.12 to 1.63.
    """
    timing = ClockDetail(generations={"step_seconds": tuple(range(6))})
    times = {"full": [math.exp(x) for x in (0.1, 0.3, 0.5) * 2], "bsr": [1.0] * 6}
    records = [
        altered(make_trial(name, step_seconds=read), environment={"timing": timing})
        for name, read in times.items()
    ]
    (comparison,) = compare(records, no_details)
    ratio = comparison.time_ratio(comparison.rows[0], "step_seconds", to="bsr")

    assert (ratio.low, ratio.high) == (pytest.approx(1.102, 1e-3), pytest.approx(1.653, 1e-3))
    assert column(look(write_page(records)), "step_seconds/ratio")[0] == "1.35× [1.10, 1.65]"


def test_times_of_other_round_groups_have_no_ratio_and_say_why(page):
    cell = page.locator("tr.row", has_text="head").locator('td[title*="round group"]')

    assert cell.count() == 1
    assert cell.get_attribute("title").startswith("not timed in the same round group")
    assert cell.inner_text().startswith("–")


def test_the_fastest_of_two_round_groups_is_that_of_the_smallest_ratio(page):
    """Head took 0.1 s, as bsr did, but in a group of its own; bsr needs 0.40 of full's time."""
    assert ["(best)" in text for text in column(page, "step_seconds")] == [
        *(False, True, False, False)
    ]
    assert ["(best)" in text for text in column(page, "peak_counted_bytes")] == [
        *(False, True, False, False)
    ]


@pytest.fixture
def page_of_an_added_row(records, make_trial, write_page, look):
    """Return the page of rows one of which was added in turns with full and bsr."""
    keys = {record.spec.method: record.key for record in records[:2]}
    again = {keys[name]: {"step_seconds": [t] * 9} for name, t in (("full", 0.4), ("bsr", 0.2))}
    mine = make_trial("mine", step_seconds=[0.3] * 9, group="later")
    return look(write_page([*records, altered(mine, beside=again)]))


def test_a_row_that_was_added_has_the_ratios_of_its_own_turns(page_of_an_added_row):
    """0.3 / 0.2 and 0.3 / 0.4; full over bsr stays what it was, though here it is 0.4 / 0.2."""
    page = page_of_an_added_row
    found = {}
    for baseline in ("bsr", "full", "head"):
        page.locator(".base select").select_option(baseline)
        found[baseline] = dict(zip(labels(page), column(page, "step_seconds/ratio"), strict=True))

    assert found["bsr"]["mine"] == "1.50×"
    assert found["bsr"]["full"] == "2.52× [0.93, 6.81]"
    assert found["full"]["mine"] == "0.75×"
    assert found["head"]["mine"].startswith("– not timed in the same round group")
    assert "rows were timed in 3 round groups" in page.locator("main").text_content()  # folded


@pytest.fixture
def unequal(make_trial, write_page, look):
    """Return the page of a row of three seeds beside one of two."""
    rows = {"bsr": (0.5, 0.75, 0.875), "full": (0.625, 0.75)}
    trainings = [
        make_trial(name, seed=seed, accuracy_top1=reached, final_loss=1 - reached)
        for name, each in rows.items()
        for seed, reached in enumerate(each)
    ]
    profiles = [
        make_trial("bsr", peak_counted_bytes=MIB),
        make_trial("full", peak_counted_bytes=2 * MIB),
    ]
    return look(write_page([*profiles, *trainings]))


def test_nothing_is_the_most_accurate_across_other_seeds(unequal):
    """Bsr has 0.708 over seeds 0 to 2 and 0.625 over those of full, which has 0.688."""
    unequal.get_by_text("Columns", exact=True).click()
    unequal.get_by_role("checkbox", name="final loss", exact=True).check()

    assert column(unequal, "seeds") == ["2 (0 and 1)", "3 (0 to 2)"]
    for name in ("accuracy_top1", "final_loss"):
        assert not any("(best)" in text for text in column(unequal, name))
    assert any("(best)" in text for text in column(unequal, "peak_counted_bytes"))
    card = unequal.locator("figure", has_text="Accuracy against cost")
    labels_ = card.locator(".point").evaluate_all("all => all.map((one) => one.ariaLabel)")
    assert any("seeds: 2 (0 and 1)" in text for text in labels_)
    assert card.locator("path.front").count() == 0


def test_of_rows_of_the_same_seeds_one_is_the_most_accurate(page):
    assert any("(best)" in text for text in column(page, "accuracy_top1"))


def test_a_failed_row_says_how_it_ended(page):
    row = page.locator("tr.failed")

    assert row.locator(".tag.bad").inner_text() == "out of memory"
    assert row.locator(".reason").inner_text() == "seed 0: out of memory (asked for 9 GiB)"
    assert "Did not complete (1)" in page.locator("main").inner_text()


def test_columns_are_switched_one_by_one_and_together(page):
    page.get_by_text("Columns", exact=True).click()
    assert heading(page, "weights_at_peak_bytes").count() == 0
    page.get_by_role("checkbox", name="weights at peak MiB", exact=True).check()
    assert column(page, "weights_at_peak_bytes")[:2] == ["10.0", "10.0"]
    counted = page.get_by_role("checkbox", name="counted MiB", exact=True)
    counted.uncheck()
    assert heading(page, "peak_counted_bytes").count() == 0
    page.get_by_role("button", name="All", exact=True).click()
    assert counted.is_checked()
    assert column(page, "precision") == ["fp32"] * 4
    page.get_by_role("button", name="Summary", exact=True).click()
    assert heading(page, "weights_at_peak_bytes").count() == 0


def test_an_opened_row_shows_its_trials_whole(page):
    opened = detail_of(page, "full")
    for fold in ("Raw samples", "Curve", "Spec", "Environment"):
        opened.get_by_text(fold, exact=True).click()
    text = opened.inner_text()

    assert "Peak of the bytes of all tensor storages alive on the trial" in text
    assert "0.2, 0.2, 0.9, 0.2, 0.2, 0.9, 0.4, 0.4, 0.4" in text
    assert "workload.model\ntest_vit" in text
    assert "1 (training, seed 1)" in text
    assert "commit\nc0ffee" in text
    assert opened.locator("svg.chart").count() == 2
    page.get_by_role("button", name="full", exact=True).first.click()
    assert page.locator("tr.detail").count() == 0


def test_links_lead_to_the_files_of_records(page, tmp_path):
    links = detail_of(page, "full").locator(".links a")
    paths = [links.nth(place).get_attribute("href") for place in range(links.count())]

    assert [path.split("/")[0] for path in paths] == [*["records"] * 3, "details"]
    assert all((tmp_path / unquote(path)).is_file() for path in paths)


def test_the_keyboard_sorts_and_opens(page):
    heading(page, "peak_counted_bytes").locator("button").focus()
    page.keyboard.press("Enter")
    assert labels(page)[0] == "bsr"
    sorted_by = "document.activeElement.closest('th').dataset.column"
    assert page.evaluate(sorted_by) == "peak_counted_bytes"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "false":
            break
    page.keyboard.press("Enter")

    assert page.locator("tr.detail").count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert page.evaluate("document.activeElement.innerText").strip() == "bsr"


def test_numbers_are_printed_as_everywhere_else(make_trial, write_page, look):
    """Halves go to even, as Python has it: 104.25 is 104.2 and 104.75 is 104.8."""
    sizes = [int(size * MIB) for size in (104.25, 104.75, 0.05, 1234567.5, 0.949, 1e-6)]
    methods = [f"m{place}" for place in range(len(sizes))]
    rows = [
        make_trial(name, peak_counted_bytes=size, estimate_error=size / GIGA - 1)
        for name, size in zip(methods, sizes, strict=True)
    ]
    page = look(write_page(rows))
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("estimate's error").check()
    shown = [text.replace(" (best)", "") for text in column(page, "peak_counted_bytes")]

    assert shown == [units.mebibytes(size) for size in sizes]
    assert column(page, "estimate_error") == [units.percent(size / GIGA - 1) for size in sizes]
