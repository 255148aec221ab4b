"""What fails around a run, and what is kept: everything that was stored before."""

import json
import resource
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.progress import Quiet
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records import trial_record as record_module
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.store import Store, latest
from bsrbench.harness.spec.recipe import Training

ROOT = Path(__file__).resolve().parents[3]
RECIPE = Training(steps=1, learning_rate=0.1)


@pytest.fixture
def specs(make_spec):
    return [make_spec(method, training=RECIPE, profile=None) for method in ("head", "full", "bias")]


@pytest.fixture
def no_more_room():
    """Lets the kernel refuse to write files beyond some bytes, until the test ends or says so."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def bound(size: int = before[0]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield bound
    bound()


class Then(InlineLauncher):
    """Does something before the second pass that is asked for."""

    def __init__(self, what):
        super().__init__(methods.load)
        self.what, self.asked = what, 0

    def perform(self, *arguments, **more):
        self.asked += 1
        if self.asked == 2:
            self.what()
        return super().perform(*arguments, **more)


def runner(store, launcher=None):
    launcher = launcher or InlineLauncher(methods.load)
    return Runner(launcher, store, methods.fingerprint, Quiet(), RunSettings(announces=False))


def files_of(store):
    return {path.name: path.read_bytes() for path in (store.folder / "records").iterdir()}


def test_a_full_disk_ends_a_run_and_keeps_what_was_stored(store, specs, no_more_room):
    with pytest.raises(BadInput, match=r"cannot write .*; everything stored before is intact"):
        runner(store, Then(lambda: no_more_room(100))).run(specs)
    no_more_room()
    (kept,) = files_of(store).items()
    records = runner(store).run(specs)

    assert len(records) == 3
    assert files_of(store)[kept[0]] == kept[1]
    assert not list(store.folder.rglob(".*.json.*"))


def test_a_folder_that_goes_away_ends_a_run_with_an_error(store, specs):
    away = store.folder.with_name("away")
    with pytest.raises(BadInput, match=r"cannot write .*No such file or directory"):
        runner(store, Then(lambda: shutil.move(store.folder, away))).run(specs)

    assert len(files_of(Store(away))) == 1
    assert len(runner(Store(away)).run(specs)) == 3


def test_a_clock_that_is_set_back_loses_nothing(store, specs, monkeypatch):
    """What is measured again replaces what was there, though it seems to be older."""

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=1)

    before = runner(store).run(specs)
    monkeypatch.setattr(record_module, "datetime", Yesterday)
    after = runner(store).run(specs, again=True)
    found, aside = store.records()

    assert {r.key for r in found} == {r.key for r in before}
    assert not aside
    assert {r.key: r for r in latest(found)} == {r.key: r for r in after}
    assert all(datetime.fromisoformat(r.finished_at) < datetime.now(UTC) for r in after)
    assert all(r.measurements["training_seconds"] > 0 for r in after)


def test_a_record_cut_at_any_byte_is_no_record(store, specs):
    runner(store).run(specs[:1])
    (path,) = (store.folder / "records").iterdir()
    whole = path.read_bytes()
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=path.name):
            read_record(path)


def in_a_namespace(prepare, code, *arguments):
    """Run Python where file systems can be mounted; skip where nobody may."""
    line = f'{prepare} && exec "$0" -c "$1" "${{@:2}}"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
    try:
        allowed = subprocess.run([*command, prepare], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if allowed.returncode:
        pytest.skip(f"no namespaces for users here: {allowed.stderr.decode().strip()}")
    done = [*command, line, sys.executable, code, *map(str, arguments)]
    return subprocess.run(done, cwd=ROOT, capture_output=True, text=True, check=False)


WITHOUT_TORCH = """
import multiprocessing, sys
from pathlib import Path
from bsrbench.harness.records.store import Store
try:
    multiprocessing.get_context("fork").Pool(2)
    print("a pool can be made")
except OSError:
    records, aside = Store(Path(sys.argv[1])).records()
    print(len(records), aside, "torch" in sys.modules)
"""


def test_without_shared_memory_records_are_read_all_the_same():
    """A pool of processes would need it for its locks."""
    late = ROOT / "results" / "late"
    found = in_a_namespace("mount -t tmpfs -o ro none /dev/shm", WITHOUT_TORCH, late)
    count = len(list((late / "records").iterdir()))

    assert found.stdout.strip() == f"{count} [] False", found.stderr


ONE_TRAINING = """
import sys
from bsrbench import methods
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.spec.trial_spec import TrialSpec
result = LocalLauncher(methods.load).perform("training", TrialSpec.model_validate_json(sys.argv[1]))
print(result.status, result.reason)
"""


def test_without_shared_memory_a_trial_runs(specs):
    prepare = "mount -t tmpfs -o ro none /dev/shm"
    found = in_a_namespace(prepare, ONE_TRAINING, specs[0].model_dump_json())

    assert found.stdout.strip() == "completed", found.stderr


SAVE = """
import sys
from pathlib import Path
from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.store import Store
store = Store(Path(sys.argv[1]))
store.open_for_writing()
records = [read_record(path) for path in sorted(Path(sys.argv[2]).iterdir())]
saved = 0
try:
    for record in records:
        store.save(record)
        saved += 1
except BadInput as error:
    found, aside = store.records()
    print(saved == len(found) > 0, aside, error)
"""


def test_a_disk_that_is_really_full_keeps_whole_records(tmp_path):
    source = ROOT / "results" / "late" / "records"
    found = in_a_namespace(f"mount -t tmpfs -o size=100k none {tmp_path}", SAVE, tmp_path, source)

    assert found.stdout.startswith("True [] cannot write"), found.stderr
    assert "No space left on device; everything stored before is intact" in found.stdout


def test_a_folder_that_may_only_be_read_is_said_before_anything_runs(tmp_path):
    prepare = f"mount -t tmpfs -o ro none {tmp_path}"
    found = in_a_namespace(prepare, SAVE, tmp_path, tmp_path)

    assert "BadInput: cannot write results into" in found.stderr
    assert "Read-only file system; choose another folder with --results" in found.stderr


FEW_HANDLES = """
import json, resource, sys
from bsrbench import methods
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.spec.trial_spec import TrialSpec
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
launcher, spec = LocalLauncher(methods.load), TrialSpec.model_validate_json(sys.argv[1])
print(json.dumps([launcher.perform("flops", spec).status for _ in range(6)]))
"""


def test_few_file_handles_are_enough(make_spec):
    command = [sys.executable, "-c", FEW_HANDLES, make_spec().model_dump_json()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert json.loads(done.stdout or "[]") == ["completed"] * 6, done.stderr
