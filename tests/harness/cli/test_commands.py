"""Commands as a person types them: what they print, their exit codes, no tracebacks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bsrbench.harness.records.environment import without_place
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_decoder import decode_record
from bsrbench.harness.records.trial_record import plain_record

ROOT = Path(__file__).resolve().parents[3]
TINY = """
description = "tiny"
seeds = [0]
[workload]
model = "deit_tiny_patch16_224"
image_size = 32
data = "digits"
batch = 2
[training]
steps = 1
learning_rate = 1e-3
[profile]
rounds = 1
generations = 2
steps = 1
warmup_steps = 1
budget_seconds = 0
[[methods]]
method = "full"
[[methods]]
method = "bsr+int8"
"""


NOT_OF_A_PROFILE = {
    *("accuracy_top1", "validation_accuracy_top1", "training_seconds", "final_loss"),
    "data_wait_share",
    *("curve_steps", "curve_seconds", "curve_accuracies"),
    *("peak_reserved_bytes", "compile_seconds", "peak_estimated_allocated_bytes"),
    *("skipped_steps", "mean_peak_bytes", "measured_states"),
    *("accuracy_by_task", "busiest_experts_share"),
}
MAY_BE_UNREADABLE = {
    "step_instructions",
    "step_cycles",
    "joules_per_image",
}  # where the processor shows no counter
UNDEFINED = {"full": set(), "bsr+int8": {"paper_convention_bytes"}}
UNTIMED = ("--set", "profile.rounds=0")
PROFILE = ("profile", "--model", "test_vit", "--batch", "1", "--method")


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_a_suite_runs_reports_and_is_not_run_twice(tiny, tmp_path, typed):
    results = tmp_path / "results"
    code, first = typed("run", tiny, "--results", results)
    records = sorted((results / "records").glob("*.json"))
    _, second = typed("run", tiny, "--results", results)

    assert code == 0
    assert len(records) == 4
    assert records == sorted((results / "records").glob("*.json"))
    assert "report.html" in first
    assert "4 of 4 trials are already stored" in second
    for name in ("report.md", "report.html", "comparison.csv", "memory.png", "memory.svg"):
        assert (results / name).stat().st_size > 0
    _check_records([decode_record(path.read_bytes()) for path in records])


def _check_records(records):
    profiled = {r.spec.method: r.measurements for r in records if r.spec.profile}
    trained = [r.measurements for r in records if r.spec.training]

    assert {"full", "bsr+int8"} == set(profiled)
    for method, measured in profiled.items():
        absent = {name for name in METRICS if measured[name] is None} - MAY_BE_UNREADABLE
        assert absent == NOT_OF_A_PROFILE | UNDEFINED[method]
        assert len(measured["step_seconds"]) == 2
    lean, full = profiled["bsr+int8"], profiled["full"]
    assert lean["peak_counted_bytes"] < full["peak_counted_bytes"]
    assert lean["step_flop"] < full["step_flop"]
    assert all(0 <= measured["accuracy_top1"] <= 1 for measured in trained)
    for record in records:
        assert record.environment.machine_id
        assert record.environment.versions["torch"]
        assert str(ROOT) not in json.dumps(plain_record(record)["environment"])


def test_profile_prints_the_record_alone_as_json(typed):
    code, printed = typed(
        *("profile", "--model", "deit_tiny_patch16_224", "--method", "bsr+int8", "--batch", 2),
        *("--image-size", 32, "--rounds", 1, "--option", "bsr.trained_blocks=[5, 9]", "--json"),
    )
    record = decode_record(printed.encode())

    assert code == 0
    assert record.spec.method == "bsr+int8"
    assert record.spec.options == {"bsr": {"trained_blocks": [5, 9]}}
    assert record.measurements["peak_counted_bytes"] > 0


def test_a_method_dropped_into_the_folder_is_found_and_runs(tiny, tmp_path):
    """Copies the sources, drops a file in, and uses it by name without any other change."""
    for folder in ("bsrbench", "harness", "methods", "reports", "suites"):
        subprocess.run(["cp", "-a", ROOT / folder, tmp_path / folder], check=True)
    text = (ROOT / "methods" / "head.py").read_text().replace("LinearProbe", "Mine")
    (tmp_path / "methods" / "mine.py").write_text(text)
    listed = _bsrbench("list", "methods", folder=tmp_path)
    run = _bsrbench("run", str(tiny), *("--methods", "mine"), *UNTIMED, folder=tmp_path)

    assert "mine" in listed.stdout.split()
    assert run.returncode == 0, run.stderr
    assert "mine" in (tmp_path / "results/local/tiny/report.md").read_text()


def _bsrbench(*arguments, folder=ROOT):
    command = [sys.executable, "-m", "bsrbench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum"], "did you mean 'run'"),
        (["run", "quik"], "did you mean 'quick'"),
        (["run", "no.toml"], "no suite file 'no.toml'"),
        (["run", "quick", "--methods", "bsrr"], "did you mean 'bsr'"),
        (["run", "quick", "--methods", "bsr+bsr"], "twice"),
        (["run", "quick", "--methods", "full (micro-batch 2)"], "did you mean 'full (micro-batch"),
        (["run", "quick", "--methods", "full,"], "no row '' in the suite"),
        (["run", "quick", "--methods", "full (x"], "is not closed"),
        (["run", "quick", "--set", "training.stepps=2"], "did you mean 'steps'"),
        (["run", "quick", "--set", "training.batch=2"], "training.batch is in the wrong place"),
        (["run", "quick", "--set", "training.steps=two"], "is not a TOML value"),
        (["run", "quick", "--set", "training.steps"], "expected key=value"),
        (["run", "quick", "--set", "workload.batch=0"], "workload.batch = 0"),
        (["run", "quick", "--set", 'workload.model="vitt"'], "no timm model 'vitt'"),
        (["run", "quick", "--set", 'workload.data="digit"'], "did you mean 'digits'"),
        (["run", "quick", "--set", 'workload.weights="x"'], "no weights 'x'"),
        (["run", "quick", "--set", 'workload.device="cud"'], "no device 'cud'"),
        (["run", "quick", "--device", "cud"], "no device 'cud'"),
        (["run", "quick", "--device", "cuda:99"], "no device 'cuda:99' here"),
        (["tune", "quick", "--device", "cuda:99"], "no device 'cuda:99' here"),
        (["search", "--like", "quick", "--memory", "1GiB", "--device", "cud"], "no device 'cud'"),
        (
            ["run", "quick", "--device", "cpu", "--set", 'workload.device="cpu"'],
            "workload.device is set twice, by --device and by --set workload.device",
        ),
        # before five data sets are downloaded for it
        (["run", "paper", "--set", 'workload.device="cuda:99"'], "no device 'cuda:99' here"),
        (["report", "nowhere"], "no folder 'nowhere/records'"),
        (["profile", "--model", "test_vit", "--method", "bsr", "--batch", "0"], "batch = 0"),
        ([*PROFILE, "bsr", "--option", "keep_rate=0.0"], "keep_rate 0.0 must lie in (0, 1]"),
        ([*PROFILE, "int8", "--option", "bit=8"], "did you mean 'bits'"),
        ([*PROFILE, "full", "--precision", "fp8"], "precision"),
        ([*PROFILE, "full", "--image-size", "65"], "image_size 65 is not a multiple"),
        ([*PROFILE, "full", "--device", "cuda:99"], "no device 'cuda:99' here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed(*arguments)
    error = printed.strip().splitlines()

    assert code == 2
    assert said in error[-1]
    assert len(error) == 1


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("test_vit", "blocks"),
        ("test_resnet", "VisionTransformer"),
        ("vit_base_patch16_gap_224", "no class token"),
        ("vit_small_patch14_reg4_dinov2", "5 leading tokens"),
    ],
)
def test_what_a_model_cannot_do_is_unsupported_and_exit_code_1(model, said, typed):
    code, printed = typed("profile", "--model", model, "--method", "bsr", "--batch", 1)

    assert code == 1
    assert "unsupported: clock pass: " in printed
    assert said in printed
    assert "Traceback" not in printed


def test_a_results_folder_that_cannot_be_written_is_said(tiny, typed):
    code, printed = typed("run", tiny, "--results", "/proc/results")

    assert code == 2
    assert "cannot write results into /proc/results" in printed


def test_lists_say_what_there_is(typed):
    assert "quick: " in typed("list", "suites")[1]
    assert typed("list", "data")[1].split()[:3] == ["digits", "noise", "cifar10"]
    assert "deit_small_patch16_224" in typed("list", "models")[1].split()
    assert "Sarkar et al. 2024" in typed("list", "methods", "--long")[1]


def test_the_schemas_name_every_key_of_suites_and_records(typed):
    suite, record = (json.loads(typed("list", f"{what}-schema")[1]) for what in ("suite", "record"))

    assert {"seeds", "workload", "methods", "questions"} <= set(suite["properties"])
    assert "layer_decay" in suite["$defs"]["Workload"]["properties"]
    assert {"spec", "outcome", "measurements", "missing"} <= set(record["properties"])
    assert "layer_decay" in record["$defs"]["Workload"]["properties"]
    assert "round_group" in record["$defs"]["Circumstances"]["properties"]


def test_the_data_dictionary_is_that_of_the_program(typed):
    """``bsrbench list metrics > results/metrics.md`` makes it again."""
    assert (ROOT / "results" / "metrics.md").read_text() == typed("list", "metrics")[1]


def test_the_claims_page_is_that_of_the_committed_records(typed):
    """``bsrbench claims results/... > docs/claims.md`` makes it again, of these four."""
    names = ("paper-profile", "paper-predicted", "flowers-small", "cifar-small")
    sources = [ROOT / "results" / name for name in names]

    assert (ROOT / "docs" / "claims.md").read_text() == typed("claims", *sources)[1]


def test_the_version_names_torch_and_the_device(typed):
    code, said = typed("--version")

    assert code == 0
    assert said.startswith("bsrbench ")
    assert "torch 2." in said
    assert "cpu: " in said


def test_help_does_not_wait_for_torch():
    probe = "import sys, bsrbench.harness.cli; print('torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert said.stdout.strip() == "False"


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"torch", "timm"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from bsrbench.harness.cli import main
main()
"""


def test_reports_are_made_without_torch(tmp_path):
    """Blocks torch's import and makes the report of stored records, old ones among them."""
    results = tmp_path / "results"
    shutil.copytree(ROOT / "tests" / "golden", results / "records")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "report", str(results)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr
    assert (results / "report.md").exists()


def test_a_command_in_a_record_names_no_place_of_the_machine():
    assert without_place("/home/me/suites/mine.toml") == ".../mine.toml"
    assert without_place("results/quick") == "results/quick"
    assert without_place("--results=/home/me/quick") == "--results=.../quick"
    assert without_place("training.steps=2") == "training.steps=2"
