"""A results folder with two good records, and a folder beside it that stays as it is."""

import pytest

from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.store import Store
from tests.harness.records.golden_records import PROFILE, TRAINING


@pytest.fixture
def outside(tmp_path):
    """Return a folder beside the results that nobody may write into."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    yield place
    assert [path.name for path in place.iterdir()] == ["mine.txt"]
    assert (place / "mine.txt").read_text() == "mine"


@pytest.fixture
def folder(tmp_path):
    """Return a results folder with two good records, with sidecars."""
    place = tmp_path / "x" / "y" / "results"
    Store(place).open_for_writing()
    for path in (PROFILE, TRAINING):
        record = read_record(path)
        Store(place).save(record, Sidecar(losses=(1.0,)))
    return place
