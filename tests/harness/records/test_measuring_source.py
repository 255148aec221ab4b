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
        *("training/job.py", "training/optimizers.py", "training/compiled_forward.py"),
        *("training/training_step.py", "training/training_loop.py", "training/evaluation.py"),
        *("meters/phase_clock.py", "meters/live_bytes.py", "meters/step_flops.py"),
        *("meters/attention_operators.py", "profiler/memory_pass.py", "profiler/clock_pass.py"),
        *("profiler/counted_step.py", "predict/estimate.py", "devices/cpu.py", "model/vit.py"),
        *("trial/trial_passes.py", "trial/record_assembly.py", "launch/round_group.py"),
        *("workload/images/preprocess.py", "workload/images/batches.py"),
    }

    assert expected <= set(names())


def test_what_shows_stores_or_hands_over_numbers_does_not():
    found = names()

    assert not [
        n for n in found if n.startswith(("cli/", "search/", "pytest_plugin/", "records/record"))
    ]
    assert not {
        *("records/store.py", "records/metrics.py", "spec/trial_spec.py"),
        *("own_step/profile_step.py", "launch/planning/run_plan.py"),
    } & set(found)


@pytest.mark.parametrize(
    "changed", ["training/job.py", "meters/live_bytes.py", "launch/round_group.py"]
)
def test_a_change_of_what_measures_is_another_hash(changed, copy):
    before = fresh()
    (copy / changed).write_text((copy / changed).read_text() + "\n# changed\n")

    assert fresh() != before


@pytest.mark.parametrize(
    "changed", ["cli/results.py", "records/store.py", "launch/planning/run_plan.py"]
)
def test_a_change_of_anything_else_is_not(changed, copy):
    before = fresh()
    (copy / changed).write_text((copy / changed).read_text() + "\n# changed\n")

    assert fresh() == before


def test_a_file_that_a_meter_begins_to_import_measures(copy):
    (copy / "weighing.py").write_text('"""New."""\n')
    meter = copy / "meters" / "live_bytes.py"
    meter.write_text(
        meter.read_text() + "\n\ndef late():\n    from bsrbench.harness import weighing\n"
    )

    assert "weighing.py" in names()
