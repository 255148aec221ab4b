"""A row without a training of its own is shown as the row whose training is the same."""

import msgspec
import pytest

from bsrbench.harness.spec.trial_spec import Profile, TrialSpec
from bsrbench.reports.documents import write_report
from bsrbench.reports.page import page_rows
from bsrbench.reports.wording import columns, notes
from tests.reports.one_comparison import only
from tests.trial_records import no_details

SAYS = (
    "checkpoint: only profiled; its training is the same as that of full by construction, so its "
    "accuracy is that of full"
)


@pytest.fixture
def records(make_trial):
    """Return a trained row with its profile, and a profile of a row that shares its training."""
    profile = make_trial("checkpoint", peak_counted_bytes=2**20)
    shares = TrialSpec(
        **profile.spec.model_dump() | {"profile": Profile(rounds=3, steps=3, trains_as="full")}
    )
    return [
        make_trial("full", accuracy_top1=0.75),
        make_trial("full", peak_counted_bytes=2**21),
        msgspec.structs.replace(profile, spec=shares),
    ]


def test_its_cells_name_the_trained_row(records):
    comparison = only(records)
    row = comparison.find("checkpoint")
    cells = {c.title: c.text(comparison, row) for c in columns.COLUMNS}
    short = {c.title: c.short(comparison, row) for c in columns.COLUMNS if c.short}

    assert cells["accuracy [range]"] == short["accuracy [range]"] == "as full"
    assert cells["learning rate"] == "as full"
    assert page_rows._learning_rate(row) == ["as full", None]


def test_it_has_no_accuracy_of_its_own(records):
    comparison = only(records)

    assert comparison.find("checkpoint").value("accuracy_top1") is None
    assert [row.label for row in comparison.pareto_front()] == ["full"]


def test_the_report_says_that_it_was_only_profiled(records, tmp_path):
    write_report.write(records, tmp_path, "t", no_details)

    assert SAYS in notes.doubts(only(records))
    assert SAYS in (tmp_path / "report.md").read_text()
    assert notes.summary(only(records))[0].count("Each row with a training of its own was") == 1


def test_a_row_without_trains_as_keeps_its_dash(make_trial):
    records = [make_trial("full", accuracy_top1=0.75), make_trial("bsr", peak_counted_bytes=1)]
    comparison = only(records)
    cells = {c.title: c.text(comparison, comparison.rows[1]) for c in columns.COLUMNS}

    assert cells["accuracy [range]"] == "–"
    assert "Each row was trained for" in notes.summary(comparison)[0]
