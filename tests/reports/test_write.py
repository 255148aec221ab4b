"""Documents of very many rows are written by several processes, and are the same."""

import sys
from pathlib import Path

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.store import Store
from bsrbench.reports.documents import write_report

RECORDS, _ = Store(Path(__file__).resolve().parents[2] / "results" / "late").records()
DOCUMENTS = ("report.md", "report.html", "report.tex", "comparison.csv")


@pytest.fixture
def several(monkeypatch):
    """Let any number of rows be very many."""

    def begin():
        monkeypatch.setattr(write_report, "MANY_ROWS", 1)
        monkeypatch.delitem(sys.modules, "torch", raising=False)

    return begin


def test_several_processes_write_the_same(several, no_details, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    write_report.write(RECORDS, alone, "t", no_details)
    several()
    shown = []
    write_report.write(RECORDS, together, "t", no_details, shown.append)

    assert len(shown) == 1
    for name in DOCUMENTS:
        assert (together / name).read_bytes() == (alone / name).read_bytes()


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("many", [False, True])
def test_what_cannot_be_written_is_said_once(document, many, several, no_details, tmp_path, capfd):
    (tmp_path / document).mkdir()
    if many:
        several()
    with pytest.raises(BadInput, match=r"cannot write the report into .*: Is a directory"):
        write_report.write(RECORDS, tmp_path, "t", no_details)

    assert capfd.readouterr() == ("", "")


def test_a_reader_that_has_gone_is_no_document(no_details, tmp_path):
    def leave(_):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write_report.write(RECORDS, tmp_path, "t", no_details, leave)
