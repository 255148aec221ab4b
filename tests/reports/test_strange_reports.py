"""A folder of a stranger's is reported on: nothing outside is written, and no text of it acts."""

import shutil
import xml.etree.ElementTree as ET

import pytest

from bsrbench.harness.records.store import Store
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import write_report
from bsrbench.reports.figures import all_figures
from bsrbench.reports.figures.all_figures import DRAWINGS
from tests.trial_records import altered

ESC = "\x1b]0;PWNED\x07\u202e"
MEASURED = {"step_flop": 1e9, "peak_counted_bytes": 2**20, "step_seconds": [0.1] * 3}
DOCUMENTS = ("report.md", "report.html", "report.tex", "comparison.csv")


@pytest.fixture
def folder(make, tmp_path):
    """Return a results folder in which every document is a link to a file outside."""
    store = Store(tmp_path / "results")
    store.open_for_writing()
    for method in ("full", "bsr"):
        store.save(make(method, **MEASURED))
    (tmp_path / "outside").mkdir()
    for name in (*DOCUMENTS, *(f"{n}.{e}" for n, _, _ in DRAWINGS for e in ("png", "svg", "pdf"))):
        (tmp_path / "outside" / name).write_text("mine")
        (store.folder / name).symlink_to(tmp_path / "outside" / name)
    return store.folder


def test_a_report_replaces_links_and_writes_nothing_outside(folder, typed):
    code, said = typed("report", folder)

    assert code == 0, said
    assert {path.read_text() for path in (folder.parent / "outside").iterdir()} == {"mine"}
    for name in (*DOCUMENTS, "time-flops.svg"):
        assert not (folder / name).is_symlink()
        assert (folder / name).read_bytes() != b"mine"
    assert not list(folder.glob(".*.part"))


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("export", "--csv", "all.csv"),
        ("export", "--json", "all.json"),
        ("export", "--parquet", "all.parquet"),
        ("claims", "--output", "claims.md"),
    ],
)
def test_what_is_exported_replaces_a_link(folder, typed, command, option, name):
    outside, link = folder.parent / "outside" / name, folder / name
    outside.write_text("mine")
    link.symlink_to(outside)
    code, said = typed(command, folder, option, link)

    assert code == 0, said
    assert outside.read_text() == "mine"
    assert not link.is_symlink()


def test_the_output_of_a_comparison_replaces_a_link(folder, typed):
    outside, link = folder.parent / "outside" / "x", folder / "x"
    outside.write_text("mine")
    link.symlink_to(outside)
    code, said = typed("compare", "bsr", "full", "--results", folder, "--output", link)

    assert code == 0, said
    assert outside.read_text() == "mine"
    assert "bsr against full" in link.read_text()


def test_the_name_of_a_folder_acts_nowhere(folder, typed):
    named = folder.with_name(f"a{ESC}")
    shutil.move(folder, named)
    code, said = typed("report", named)

    assert code == 0, said
    documents = [said, *((named / name).read_text() for name in DOCUMENTS)]
    assert all(character not in text for text in documents for character in ESC if character < " ")
    assert all("\u202e" not in text for text in documents)


def test_pictures_of_strange_names_are_drawn_and_are_xml(make, no_details, tmp_path):
    """A model's name is no formula; a processor's name does not end the file."""
    machine = {"machine": {"processor": f"x{ESC}\ud800", "cores": 2}}
    records = [
        make(method, **MEASURED, environment=machine, workload={"model": r"vit $\x$ & <b>"})
        for method in ("full", "head")
    ]
    (tmp_path / "drawn").mkdir()
    drawn = all_figures.write_all(compare(records, no_details), tmp_path / "drawn")

    assert drawn
    for figure in drawn:
        text = (tmp_path / "drawn" / f"{figure.name}.svg").read_text()
        ET.fromstring(text)  # noqa: S314 - a picture of our own
        assert r"vit $\x$ &amp; &lt;b" in text
        assert r"x\x1b]0;PWNED\x07\u202e\ud800" in text


def test_reasons_act_in_no_document(make, no_details, tmp_path):
    machine = {"machine": {"processor": f"x{ESC}", "cores": 2}}
    records = [
        make("full", step_flop=1e9, environment=machine),
        altered(
            make("bsr", status="crashed", environment=machine),
            notes=[f"note {ESC}"],
            missing={"step_flop": f"reason {ESC}"},
        ),
    ]
    write_report.write(records, tmp_path, "title", no_details)

    for name in DOCUMENTS:
        text = (tmp_path / name).read_text()
        assert not any(character in text for character in ESC if not character.isprintable()), name
