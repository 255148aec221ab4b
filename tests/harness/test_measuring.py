"""Which files measure, and what changes their hash."""

import shutil

import pytest

from bsrbench.harness.records import measuring_source


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Return a copy of the harness in the place of the real one."""
    shutil.copytree(measuring_source.HARNESS, tmp_path / "harness")
    monkeypatch.setattr(measuring_source, "HARNESS", tmp_path / "harness")
    return tmp_path / "harness"


def names():
    return [
        path.relative_to(measuring_source.HARNESS).as_posix()
        for path in measuring_source.measuring_files()
    ]


def fresh():
    return measuring_source.measuring_hash.__wrapped__()


def test_steps_meters_and_their_passes_measure():
    expected = {
        *("training.py", "optimizer.py", "compiled.py", "counted_step.py", "estimate.py"),
        *("meters/clock.py", "meters/counted.py", "meters/flops.py", "meters/attention.py"),
        *("profiler/memory.py", "profiler/clock.py", "devices/cpu.py", "workload/images.py"),
        *("trial.py", "assembly.py", "launch/round_group.py", "vit.py"),
    }

    assert expected <= set(names())


def test_what_shows_stores_or_hands_over_numbers_does_not():
    found = names()

    assert not [n for n in found if n.startswith(("cli/", "search/", "pytest_plugin/", "record"))]
    assert not {"store.py", "spec.py", "own_step.py", "metrics.py", "launch/plan.py"} & set(found)


@pytest.mark.parametrize("changed", ["training.py", "meters/counted.py", "launch/round_group.py"])
def test_a_change_of_what_measures_is_another_hash(changed, copy):
    before = fresh()
    (copy / changed).write_text((copy / changed).read_text() + "\n# changed\n")

    assert fresh() != before


@pytest.mark.parametrize("changed", ["cli/results.py", "store.py", "launch/plan.py"])
def test_a_change_of_anything_else_is_not(changed, copy):
    before = fresh()
    (copy / changed).write_text((copy / changed).read_text() + "\n# changed\n")

    assert fresh() == before


def test_a_file_that_a_meter_begins_to_import_measures(copy):
    (copy / "weighing.py").write_text('"""New."""\n')
    meter = copy / "meters" / "counted.py"
    meter.write_text(meter.read_text() + "\n\ndef late():\n    from harness import weighing\n")

    assert "weighing.py" in names()
