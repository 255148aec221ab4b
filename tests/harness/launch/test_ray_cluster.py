"""Trials on a Ray cluster of two nodes, both on this machine and on its loopback alone."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

# Else Ray takes 127.0.0.1 for the machine's other address, on which its server doesn't listen.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster as RayCluster  # noqa: E402

from bsrbench import methods  # noqa: E402
from bsrbench.harness.errors import BadInput  # noqa: E402
from bsrbench.harness.launch.cluster import cluster_unit as module  # noqa: E402
from bsrbench.harness.launch.cluster.cluster_unit import MethodLoaders  # noqa: E402
from bsrbench.harness.launch.cluster.ray_cluster import Cluster  # noqa: E402
from bsrbench.harness.launch.local_launcher import LocalLauncher  # noqa: E402
from bsrbench.harness.launch.run_settings import RunSettings  # noqa: E402
from bsrbench.harness.records.record_key import read_key  # noqa: E402
from bsrbench.harness.records.store import Store  # noqa: E402
from bsrbench.harness.records.trial_record import Status  # noqa: E402
from bsrbench.harness.spec.trial_spec import Profile, Training  # noqa: E402
from bsrbench.reports.compare.anchors import compared_with  # noqa: E402
from tests.harness.launch.ray_worker import GATED, worker_of  # noqa: E402
from tests.trial_records import altered  # noqa: E402

HERE = "127.0.0.1"
# Ray 2.40 leaves the log files of its processes to be closed by the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
FOUND = MethodLoaders(methods.load, methods.fingerprint)


@pytest.fixture(scope="module")
def nodes():
    """Return a cluster whose second node has the label ``jetson``."""
    made = RayCluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "node_ip_address": HERE,
            "include_dashboard": False,
            # A killed node refuses to answer, which is noticed within seconds; one on a machine
            # with too much to do answers late, and is none.
            "_system_config": {
                "health_check_initial_delay_ms": 1000,
                "health_check_period_ms": 1000,
                "health_check_timeout_ms": 60_000,
                "health_check_failure_threshold": 3,
            },
        },
    )
    jetson = made.add_node(num_cpus=1, resources={"jetson": 1}, node_ip_address=HERE)
    ray.init(address=made.address, _node_ip_address=HERE, log_to_driver=False)
    yield made, jetson
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def make_cluster(nodes, tmp_path, make_watcher):
    def make(**settings):
        store = Store(tmp_path / "results")
        return Cluster(
            FOUND, store, make_watcher(settings.pop("on_show", lambda _: None)), **settings
        )

    return make


@pytest.fixture
def trainings(make_spec):
    recipe = Training(steps=1, learning_rate=0.1)
    return [make_spec(training=recipe, seed=seed) for seed in range(4)]


def test_records_come_back_from_both_nodes(make_cluster, make_spec, trainings):
    short = Profile(rounds=1, generations=1, budget_seconds=0)
    timed = [make_spec(name, profile=short) for name in ("full", "head")]
    records = make_cluster().run([*timed, *trainings[:2]])
    ran_on = {record.circumstances.cluster.node for record in records}

    assert [record.outcome.status for record in records] == [Status.COMPLETED] * 4
    assert len(ran_on) == 2
    assert records[0].circumstances.round_group == records[1].circumstances.round_group
    assert records[0].circumstances.cluster == records[1].circumstances.cluster
    assert records[0].measurements["peak_counted_bytes"] > 0


def test_what_is_stored_is_not_run_again(make_cluster, trainings):
    make_cluster().run(trainings[:1])
    again = make_cluster()
    records = again.run(trainings[:1])

    assert again.watcher.said == ["1 of 1 trials are already stored"]
    assert len(records) == 1


SHORT = Profile(rounds=1, generations=1, budget_seconds=0)


def test_a_new_row_takes_turns_with_the_stored_reference(make_cluster, make_spec):
    """As at home: the stored record stays as it is, and the plan names it."""
    run_settings = RunSettings(compared_with=compared_with)
    full, _ = make_cluster(run_settings=run_settings).run(
        [make_spec(n, profile=SHORT) for n in ("full", "head")]
    )
    later = make_cluster(run_settings=run_settings)
    path = later.store.folder / "records" / f"{full.key}.json"
    before = path.read_bytes()
    (new,) = later.run([make_spec("norm", profile=SHORT)])

    assert set(new.beside) == {full.key}
    assert len(new.beside[full.key]["step_seconds"]) == 1
    assert path.read_bytes() == before
    (said,) = later.watcher.said
    assert said.startswith("  full is stored and will be timed again, in turns with norm: ")


def test_a_stored_row_of_a_machine_that_no_node_is_takes_no_turns(make_cluster, make_spec):
    one = make_cluster()
    (full,) = one.run([make_spec(profile=SHORT)])
    key = f"{full.key.rpartition('-')[0]}-elsewhere"
    environment = {"machine_id": "elsewhere"}
    one.store.save(altered(full, key=key, environment=environment))
    (one.store.folder / "records" / f"{full.key}.json").unlink()
    later = make_cluster()
    (new,) = later.run([make_spec("norm", profile=SHORT)])

    assert new.beside == {}
    assert later.watcher.said[-1] == (
        "norm, seed 0: no ratio of times to full, because these rows were measured on "
        "machine elsewhere, which is not among the nodes"
    )


def test_a_label_chooses_the_node_and_makes_its_own_records(make_cluster, trainings, nodes):
    make_cluster().run(trainings[:1])
    (record,) = make_cluster(label="jetson").run(trainings[:1])

    assert record.circumstances.cluster.label == "jetson"
    assert nodes[1].node_id.startswith(record.circumstances.cluster.node)


def test_a_label_that_no_node_has_is_an_error_that_names_those_there_are(make_cluster, trainings):
    with pytest.raises(
        BadInput, match=r"no node has the resource 'orin'; available resources: .*jetson"
    ):
        make_cluster(label="orin").run(trainings)


def test_a_node_without_a_gpu_is_given_no_unit_that_needs_one(make_cluster, make_spec):
    with pytest.raises(BadInput, match="no node has the resource 'GPU'; available resources: CPU"):
        make_cluster().run([make_spec(device="cuda")])


def test_a_node_with_other_code_is_refused(make_cluster, trainings, monkeypatch):
    monkeypatch.setattr(module, "source_hash", lambda: "other")
    with pytest.raises(BadInput, match=r"has different code \(bsrbench \w+, expected other\)"):
        make_cluster().run(trainings)


def test_a_node_with_other_settings_is_refused(make_cluster, trainings, monkeypatch):
    """It has what was set when it was started."""
    asked = LocalLauncher.settings
    monkeypatch.setattr(
        LocalLauncher, "settings", lambda *given: asked(*given) | {"TIMM_FUSED_ATTN": "0"}
    )
    with pytest.raises(BadInput, match=r"has different settings \(TIMM_FUSED_ATTN 1, expected 0\)"):
        make_cluster().run(trainings)


def test_what_was_measured_under_other_settings_is_run_again(make_cluster, trainings, tmp_path):
    (record,) = make_cluster().run(trainings[:1])
    path = tmp_path / "results" / "records" / f"{record.key}.json"
    key = read_key(record.key)
    old = replace(key, settings="0" * 8)
    environment = {"settings": record.environment.settings | {"MKL_CBWR": "COMPATIBLE"}}
    path.unlink()
    Store(tmp_path / "results").save(altered(record, key=str(old), environment=environment))
    again = make_cluster()
    (after,) = again.run(trainings[:1])

    assert again.watcher.said == [
        "stale, run again: full (measured under other settings: MKL_CBWR COMPATIBLE, now not set)"
    ]
    assert after.key == record.key


def test_a_failing_trial_is_a_record_and_ends_no_run(make_cluster, make_spec):
    (record,) = make_cluster().run([make_spec("bsr", model="test_vit")])

    assert record.outcome.status is Status.UNSUPPORTED


def test_no_cluster_is_an_error(tmp_path, make_spec):
    """In a process of its own, for this one is connected already."""
    code = (
        "import sys; from bsrbench.harness.cli import main; "
        "sys.argv = ['bsrbench', 'run', 'quick', '--launcher', 'ray', "
        "'--address', '127.0.0.1:1', '--methods', 'full', '--results', "
        f"{str(tmp_path)!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 2
    assert "no Ray cluster at '127.0.0.1:1'" in done.stderr


@pytest.fixture
def gated(tmp_path):
    """Return the name of a method that trains as soon as a file is there, and the file."""
    gate, method = tmp_path / "gate", tmp_path / "gated.py"
    method.write_text(f"GATE = {str(gate)!r}\n{GATED}")
    return f"{method}:Gated", gate


@pytest.fixture
def kill_first(nodes, gated):
    """Kill the first process that has a trial on the second node, and then open the gate.

    Returns the name of the gated method and a list of what was killed.
    """
    (method, gate), killed, over = gated, [], threading.Event()

    def kill():
        while not (found := worker_of(nodes[1])) and not over.wait(0.02):
            pass
        if found:
            os.kill(found, signal.SIGKILL)
            killed.append(found)
        gate.touch()

    killer = threading.Thread(target=kill)
    killer.start()
    yield method, killed
    over.set()  # whatever became of the test, nobody of the next one's is killed
    killer.join()


def test_a_killed_worker_loses_and_doubles_nothing(make_cluster, make_spec, kill_first):
    """The process that has the trial is killed with it; the node gets it again."""
    method, killed = kill_first
    one = make_cluster(label="jetson")
    (record,) = one.run([make_spec(method, training=Training(steps=1, learning_rate=0.01))])

    assert killed
    assert any(line.endswith("its unit runs again") for line in one.watcher.said)
    assert record.outcome.status is Status.COMPLETED
    assert one.store.records() == ([record], [])


def test_a_lost_node_loses_and_doubles_nothing(make_cluster, make_spec, nodes, gated):
    """The node is killed while it has a trial; the trial goes again on another."""
    (made, _), (method, gate) = nodes, gated
    doomed = made.add_node(num_cpus=1, resources={"orin": 1}, node_ip_address=HERE)
    killed = []

    def kill(tally):
        if doomed.node_id[:8] in tally.what and not killed:
            killed.append(tally.what)
            made.remove_node(doomed, allow_graceful=False)
            gate.touch()

    recipe = Training(steps=1, learning_rate=0.01)
    specs = [make_spec(method, training=recipe, seed=seed) for seed in range(4)]
    one = make_cluster(on_show=kill)
    records = one.run(specs)
    stored, aside = one.store.records()

    assert killed
    assert any("runs again" in line for line in one.watcher.said)
    assert [record.spec.seed for record in records] == list(range(4))
    assert len(stored) == 4
    assert aside == []
    assert {record.outcome.status for record in records} == {Status.COMPLETED}
