"""What the doctor found out is kept for a device, a driver and a version of torch."""

import pytest

from bsrbench.harness.caches.cache_contents import contents_of
from bsrbench.harness.caches.cache_kind import DOCTOR
from bsrbench.harness.errors import BadInput
from bsrbench.harness.records import device_examination
from bsrbench.harness.records.device_examination import (
    DeviceExamination,
    examination_in,
    last_examination,
    store_examination,
)

H100 = {"device": "NVIDIA H100 80GB HBM3", "driver": "580.159.04", "other_processes": 0}
DONE = DeviceExamination(
    finished_at="2026-11-27T09:00:00.000+00:00", passed=("allocated bytes",), failed=("clock",)
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(device_examination, "_torch_version", lambda: "2.11.0")
    return tmp_path / "cache"


def test_what_was_kept_is_what_a_record_contains():
    store_examination("cuda", H100, DONE)
    found = last_examination("cuda", H100 | {"other_processes": 3})

    assert found == {
        "doctor": {
            "finished_at": "2026-11-27T09:00:00.000+00:00",
            "torch": "2.11.0",
            "driver": "580.159.04",
            "passed": ("allocated bytes",),
            "failed": ("clock",),
        }
    }
    assert examination_in(found).passed == ("allocated bytes",)
    assert examination_in(H100) is None
    assert examination_in({"doctor": "yes"}) is None


def test_what_is_kept_is_listed_as_a_cache():
    """'bsrbench cache' shows it, and empties it."""
    store_examination("cuda", H100, DONE)

    assert [entry.path.name[:7] for entry in contents_of(DOCTOR).entries] == ["doctor-"]


def test_a_later_examination_replaces_an_earlier_one():
    store_examination("cuda", H100, DONE)
    store_examination("cuda", H100, DeviceExamination(finished_at="2026-12-01"))

    assert examination_in(last_examination("cuda", H100)).finished_at == "2026-12-01"


@pytest.mark.parametrize(
    ("kind", "described"),
    [
        ("cpu", H100),
        ("cuda", H100 | {"device": "NVIDIA A100"}),
        ("cuda", H100 | {"driver": "590.0"}),
        ("cuda", {"device": H100["device"]}),
    ],
    ids=["another kind", "another device", "another driver", "no driver"],
)
def test_an_examination_says_nothing_about_another_device(kind, described):
    store_examination("cuda", H100, DONE)

    assert last_examination(kind, described) == {}


def test_another_torch_was_not_examined(monkeypatch):
    store_examination("cuda", H100, DONE)
    monkeypatch.setattr(device_examination, "_torch_version", lambda: "2.14.1")

    assert last_examination("cuda", H100) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"finished_at": 1}', b'{"passed": []}'])
def test_a_damaged_file_is_no_examination(content, cache):
    store_examination("cuda", H100, DONE)
    (kept,) = cache.glob("doctor-*.json")
    kept.write_bytes(content)

    assert last_examination("cuda", H100) == {}


def test_a_cache_that_cannot_be_written_is_bad_input(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path / "file" / "cache"))

    with pytest.raises(BadInput, match="set BSRBENCH_CACHE to another folder"):
        store_examination("cuda", H100, DONE)
    assert last_examination("cuda", H100) == {}
