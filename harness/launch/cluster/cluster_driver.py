"""Assign units to the nodes of a cluster, and store their records."""

import time
from typing import Any, Protocol

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.cluster.cluster_unit import (
    NOBODY,
    ClusterUnit,
    MethodLoaders,
    NodeConditions,
    UnitAnswer,
    code_of,
    machine_of_node,
    run_unit,
)
from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.progress import Watcher
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.run_tally import Tally
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_environment import ClusterNode
from bsrbench.harness.records.trial_record import Status, TrialRecord

LOOK_AGAIN_SECONDS = 2.0
MOST_TRIES = 3  # for a unit whose worker dies while its node stays alive
LOST = (
    ray.exceptions.NodeDiedError,
    ray.exceptions.TaskUnschedulableError,
    ray.exceptions.ObjectLostError,
)


class ClusterProtocol(Protocol):
    """The attributes of ``bsrbench.harness.launch.cluster.ray_cluster.Cluster`` used here."""

    @property
    def methods(self) -> MethodLoaders:
        """The functions that load methods."""

    @property
    def store(self) -> Store:
        """The store of the records."""

    @property
    def watcher(self) -> Watcher:
        """The receiver of the progress."""

    @property
    def label(self) -> str:
        """The resource that a node must have."""

    @property
    def limits(self) -> Limits:
        """The time and memory limits of a pass."""

    @property
    def run_settings(self) -> RunSettings:
        """The settings of the run."""


def _living() -> list[dict[str, Any]]:
    """Return Ray's description of every node that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _machine(node: str) -> str:
    """Return the machine id of a node; empty if the node does not answer."""
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    try:
        machine = ray.get(machine_of_node.options(num_cpus=0, scheduling_strategy=where).remote())
    except ray.exceptions.RayError:
        return ""
    return str(machine)


class Driver:
    """Assigns units to nodes until all are done.

    Args:
        cluster: the cluster and its settings.
        units: the units to run.
        present: the current conditions here, which every node must have.
    """

    def __init__(
        self, cluster: ClusterProtocol, units: list[ClusterUnit], present: CurrentConditions
    ) -> None:
        self._cluster, self._present = cluster, present
        self._waiting = units
        self._running: dict[ray.ObjectRef[UnitAnswer], tuple[ClusterUnit, str]] = {}
        self._refused: dict[str, str] = {}
        self._data: dict[str, Any] = {}
        self._machines: dict[str, str] = {}
        self._tally = Tally(trials=sum(len(unit.specs) for unit in units))
        self._tally.begin(len(units))
        self._lost = self._told_waiting = False

    def drive(self) -> None:
        """Run all units.

        Raises:
            BadInput: no node can run the remaining units.
            KeyboardInterrupt: the user has stopped the run, and the running units have ended.
        """
        try:
            while self._waiting or self._running:
                self._hand_out()
                self._collect()
        except BaseException:
            for running in self._running:
                ray.cancel(running, force=True)
            raise

    def _hand_out(self) -> None:
        """Assign to every free node the first unit that it can run, unless the run must stop."""
        if self._cluster.run_settings.stopping():
            if not self._running:
                raise KeyboardInterrupt
            return
        self._release_units_of_absent_machines()
        busy = {node for _, node in self._running.values()}
        for node in _living():
            name = node["NodeID"]
            unit = next((unit for unit in self._waiting if self._fits(unit, node)), None)
            if unit is not None and name not in busy:
                self._waiting.remove(unit)
                self._running[self._start(unit, name)] = (unit, name)
                self._tally.what = f"{unit.label()} on node {name[:8]}"
                self._cluster.watcher.show(self._tally)
        if self._waiting and not self._running:
            self._cannot_go_on()

    def _fits(self, unit: ClusterUnit, node: dict[str, Any]) -> bool:
        """Return whether a node can run a unit: code, label, machine, and GPU if needed."""
        needed = [self._cluster.label] if self._cluster.label else []
        needed += ["GPU"] if unit.on_gpu() else []
        resources = node["Resources"]
        here = unit.machine in {"", self._machines.get(node["NodeID"])}
        return (
            here
            and node["NodeID"] not in self._refused
            and all(resources.get(n, 0) > 0 for n in needed)
        )

    def _release_units_of_absent_machines(self) -> None:
        """Let a unit run on any node if the machine of its stored rows is not among the nodes.

        The unit then runs without its stored rows, and the user gets a message.
        """
        bound = [unit for unit in self._waiting if unit.machine]
        if not bound:
            return
        there = [node["NodeID"] for node in _living() if node["NodeID"] not in self._refused]
        for name in set(there) - self._machines.keys():
            self._machines[name] = _machine(name)
        machines = {self._machines[name] for name in there}
        for unit in bound:
            if unit.machine not in machines:
                rows = ", ".join(record.label() for record in unit.beside.records)
                self._cluster.watcher.say(
                    f"{unit.label()}: no ratio of times to {rows}, because these rows were "
                    f"measured on machine {unit.machine}, which is not among the nodes"
                )
                unit.machine, unit.beside = "", NOBODY

    def _cannot_go_on(self) -> None:
        """Report why no node can run the remaining units, or wait for lost nodes to return.

        Raises:
            BadInput: nodes have refused units; or no node has the needed resources, and no node
                was lost.
        """
        label = self._cluster.label
        if self._refused:
            raise BadInput("; ".join(self._refused.values()))
        if not self._lost:
            there = sorted({r for node in _living() for r in node["Resources"]})
            shown = [name for name in there if not name.startswith(("node:", "object_store"))]
            gpu = self._waiting[0].on_gpu()
            needed = " and ".join([*([repr(label)] if label else []), *(["'GPU'"] if gpu else [])])
            raise BadInput(
                f"no node has the resource {needed}; available resources: {', '.join(shown)}"
            )
        if not self._told_waiting:
            self._cluster.watcher.say("every usable node is lost; waiting for one to return")
            self._told_waiting = True

    def _start(self, unit: ClusterUnit, node: str) -> "ray.ObjectRef[UnitAnswer]":
        # Ray ends a worker after a task on a GPU, so the next unit may get another worker.
        task = run_unit.options(
            num_cpus=0,
            num_gpus=1 if unit.on_gpu() else 0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        conditions = NodeConditions(
            code_of(unit.methods(), self._cluster.methods.fingerprint),
            self._present.settings(unit.specs[0].workload.device),
        )
        cluster = self._cluster
        return task.remote(unit, cluster.methods, cluster.limits, self._of_a_node(), conditions)

    def _of_a_node(self) -> RunSettings:
        """Return the settings for a node; only the driver announces the plan and stops the run."""
        asked = self._cluster.run_settings
        return RunSettings(
            checkpoint_seconds=asked.checkpoint_seconds,
            announces=False,
            limits=asked.limits,
            compared_with=asked.compared_with,
            trusted=asked.trusted,
        )

    def _collect(self) -> None:
        """Store the records of finished units, and queue lost units again."""
        if not self._running:
            time.sleep(LOOK_AGAIN_SECONDS)
            return
        ended, _ = ray.wait(list(self._running), timeout=LOOK_AGAIN_SECONDS)
        for reference in ended:
            unit, node = self._running.pop(reference)
            try:
                answer = ray.get(reference)
            except LOST as error:
                self._lost = True
                if any(living["NodeID"] == node for living in _living()):
                    self._again(unit, node, error)
                    continue
                self._cluster.watcher.say(f"node {node[:8]} is lost: {unit.label()} runs again")
                self._waiting.insert(0, unit)
            except ray.exceptions.RayError as error:  # the task failed, or Ray killed it for memory
                self._again(unit, node, error)
            else:
                self._take(unit, node, answer)

    def _again(self, unit: ClusterUnit, node: str, error: Exception) -> None:
        unit.tries += 1
        why = str(error).strip().splitlines()[-1]
        if unit.tries >= MOST_TRIES:
            raise BadInput(f"{unit.label()}: its worker died {unit.tries} times: {why}")
        self._cluster.watcher.say(f"a worker on node {node[:8]} died ({why}): its unit runs again")
        self._waiting.append(unit)

    def _take(self, unit: ClusterUnit, node: str, answer: UnitAnswer) -> None:
        if answer.refused:
            self._refused[node] = f"node {node[:8]} {answer.refused}"
            self._cluster.watcher.say(f"{self._refused[node]}: this node is not used")
            self._waiting.insert(0, unit)
            return
        if difference := self._data_difference([record for record, _ in answer.stored]):
            self._refused[node] = f"node {node[:8]} {difference}"
            self._cluster.watcher.say(f"{self._refused[node]}: its measurements are not stored")
            self._waiting.insert(0, unit)
            return
        for record, sidecar in answer.stored:
            self._save(record, sidecar, node)
        self._tally.passes_done += 1
        self._cluster.watcher.show(self._tally)

    def _data_difference(self, records: list[TrialRecord]) -> str:
        """Return how a node's data differ from those of the other nodes; empty if they do not."""
        for record in records:
            facts = record.environment.workload.get("data")
            name = record.spec.workload.data_name()
            if facts and self._data.setdefault(name, facts) != facts:
                return f"has different data under the name {name!r}"
        return ""

    def _save(self, record: TrialRecord, sidecar: Sidecar, node: str) -> None:
        of = ClusterNode(label=self._cluster.label, node=node[:8])
        circumstances = msgspec.structs.replace(record.circumstances, cluster=of)
        kept = msgspec.structs.replace(record, circumstances=circumstances)
        self._cluster.store.save(kept, sidecar)
        completed = record.outcome.status is Status.COMPLETED
        self._tally.completed += completed
        self._tally.failed += not completed
        if not completed:
            status, reason = record.outcome.status, record.outcome.reason
            self._cluster.watcher.say(f"{record.label()}: {status} ({reason})")
