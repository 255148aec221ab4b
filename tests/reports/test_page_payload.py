"""A text that would be a script stands in every field of a page; everything is clicked on."""

import pytest

from tests.trial_records import altered

MIB = 2**20
PAYLOAD = (
    "\"'><img src=x onerror=alert(1)><script>alert(2)</script><svg onload=alert(3)>{{7*7}}${8*8}"
)
CLICKED = (
    "button, summary, th, tbody tr, label, input, select, nav a, svg circle, svg path, svg rect"
)


def in_every_text(data):
    """Return JSON data in which every text is the payload; keys stay."""
    if isinstance(data, str):
        return PAYLOAD
    if isinstance(data, dict):
        return {key: in_every_text(value) for key, value in data.items()}
    return list(map(in_every_text, data)) if isinstance(data, list) else data


@pytest.fixture
def forged(make_trial, parts):
    """Return records whose every text that is free is the payload."""
    environment = {
        "machine_id": PAYLOAD,
        "machine": {"processor": PAYLOAD, "system": PAYLOAD, "cores": 2},
        "versions": {"torch": PAYLOAD, PAYLOAD: PAYLOAD},
        "commit": PAYLOAD,
        "round_group": PAYLOAD,
        "attention_kernel": PAYLOAD,
        **{name: {PAYLOAD: PAYLOAD} for name in ("device", "method", "settings", "variables")},
    }
    asked = {"options": {PAYLOAD: PAYLOAD}, "workload": {"model": PAYLOAD}}
    values = {"peak_counted_bytes": MIB, "step_seconds": [0.1] * 9, **parts}
    made = [
        make_trial(f"{PAYLOAD}{place}", **values, **asked, status=status, reason=PAYLOAD)
        for place, status in enumerate(("completed", "crashed", "diverged"))
    ]
    made += [make_trial(f"{PAYLOAD}{n}", accuracy_top1=0.5, **asked) for n in (0, 1)]
    return [
        altered(
            record,
            notes=[PAYLOAD],
            missing=dict.fromkeys(record.missing, PAYLOAD),
            environment=environment,
        )
        for record in made
    ]


def test_no_text_of_a_page_acts_whatever_is_clicked(forged, write_page, look, sidecar):
    details = {record.spec.method: in_every_text(sidecar) for record in forged}
    page = look(write_page(forged, details, title=PAYLOAD))
    page.on("popup", lambda opened: pytest.fail(f"opened {opened.url}"))
    clicked = 0
    for _ in range(3):  # what a click has shown is clicked on, too
        clicked += page.evaluate(
            """wanted => {
                const found = [...document.querySelectorAll(wanted)];
                let done = 0;
                for (const element of found) {
                    if (!element.isConnected) continue;  // a click before took it away
                    done += 1;
                    element.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
                    element.dispatchEvent(new MouseEvent("click", {bubbles: true}));
                }
                return done;
            }""",
            CLICKED,
        )

    assert clicked > 150
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert page.locator("[onload], [onerror]").count() == 0
    assert "onerror=alert(1)" in page.locator("main").inner_text()
    assert "49" not in page.locator("h1").inner_text()
