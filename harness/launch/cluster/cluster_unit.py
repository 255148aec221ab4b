"""A unit: trials that must run on one node of a cluster, and the task that runs them."""

import functools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ray

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.launch.planning.companions import Companions
from bsrbench.harness.launch.planning.current_conditions import NOT_SET
from bsrbench.harness.launch.planning.run_plan import PlannedTrial, by_question, is_timed
from bsrbench.harness.launch.processes.fork_server import server
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.progress import Quiet
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.environment import installed_versions, machine_id, source_hash
from bsrbench.harness.records.record_key import COMPUTING, READING_IMAGES
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader

NOBODY = Companions()


@dataclass(frozen=True)
class MethodLoaders:
    """Functions that load methods; other processes can import them by name.

    Attributes:
        load: returns the method of a name and options.
        fingerprint: name -> hash of the method's source.
    """

    load: Loader
    fingerprint: Callable[[str], str]


@dataclass(frozen=True)
class UnitAnswer:
    """A node's answer to a unit.

    Attributes:
        refused: why the node did not run the unit; empty if it did.
        stored: the records with their sidecars.
    """

    refused: str = ""
    stored: tuple[tuple[TrialRecord, Sidecar], ...] = ()


@dataclass(frozen=True)
class NodeConditions:
    """Conditions that must be the same on every node.

    Attributes:
        code: bsrbench, methods and libraries: name -> hash or version.
        settings: settings that affect numbers.
    """

    code: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class ClusterUnit:
    """Trials that must run on one node: the trials of a round group, or a single trial.

    Attributes:
        specs: the trials.
        beside: the stored trials that are timed again in turns with them.
        machine: id of the machine of the stored trials; the unit must run there. Empty if there are
            no stored trials.
        tries: how often a worker has died while running the unit.
    """

    specs: list[TrialSpec]
    beside: Companions = NOBODY
    machine: str = ""
    tries: int = 0

    def methods(self) -> list[str]:
        """Return the methods of all its trials, including the trials that are timed again."""
        return [spec.method for spec in (*self.specs, *(r.spec for r in self.beside.records))]

    def on_gpu(self) -> bool:
        """Return whether the unit needs one of the node's GPUs."""
        return self.specs[0].workload.device.startswith("cuda")

    def label(self) -> str:
        """Return a short description of the unit."""
        first = self.specs[0]
        more = f" and {len(self.specs) - 1} more" if len(self.specs) > 1 else ""
        return f"{first.label()}, seed {first.seed}{more}"


def units(
    specs: Sequence[TrialSpec], companions: Callable[[Sequence[TrialSpec]], Companions]
) -> list[ClusterUnit]:
    """Return one unit for the timed trials of each question, and one for every other trial.

    Args:
        specs: the trials.
        companions: takes new trials; returns the stored trials of one machine that are timed again
            with them.
    """
    planned = [PlannedTrial(spec, spec.trial_id()) for spec in specs]
    groups = [[trial.spec for trial in group] for group in by_question(planned).values()]
    alone = [spec for spec in specs if not is_timed(spec)]
    return [
        *(_timed(group, companions(group)) for group in groups),
        *(ClusterUnit([s]) for s in alone),
    ]


def _timed(group: list[TrialSpec], chosen: Companions) -> ClusterUnit:
    machines = {record.environment.machine_id for record in chosen.records}
    return ClusterUnit(group, chosen, next(iter(machines), ""))


def code_of(names: Iterable[str], fingerprint: Callable[[str], str]) -> dict[str, str]:
    """Return hashes and versions of bsrbench, methods and libraries, to compare two machines."""
    versions = installed_versions()
    return (
        {"bsrbench": source_hash()}
        | {name: versions.get(name, "none") for name in (*COMPUTING, *READING_IMAGES)}
        | {f"method {name}": fingerprint(name) for name in sorted(set(names))}
    )


def _difference(what: str, here: dict[str, str], expected: dict[str, str]) -> str:
    """Return a phrase that says how a node differs from the requirements; empty if it does not."""
    names = [name for name in {**expected, **here} if here.get(name) != expected.get(name)]
    differences = [
        f"{name} {here.get(name, NOT_SET)}, expected {expected.get(name, NOT_SET)}"
        for name in names
    ]
    return f"has different {what} ({', '.join(differences)})" if differences else ""


@functools.cache
def _launcher(load: Loader, limits: Limits) -> LocalLauncher:
    """Return this worker's launcher, whose fork server serves all its units."""
    return LocalLauncher(load, limits)


@ray.remote
def machine_of_node() -> str:
    """Return the machine id of this node."""
    return machine_id()


@ray.remote
def run_unit(
    unit: ClusterUnit,
    methods: MethodLoaders,
    limits: Limits,
    run_settings: RunSettings,
    conditions: NodeConditions,
) -> UnitAnswer:
    """Run a unit on this node, in separate processes, and return its records and sidecars.

    Args:
        unit: the new trials, and the stored trials that are timed again in turns with them.
        methods: loads methods.
        limits: time and memory limits of a pass.
        run_settings: the settings of the run.
        conditions: the conditions that this node must meet.
    """
    launcher = _launcher(methods.load, limits)
    try:
        here = code_of(unit.methods(), methods.fingerprint)
        difference = _difference("code", here, conditions.code) or _difference(
            "settings", launcher.settings(unit.specs[0].workload.device), conditions.settings
        )
    except BadInput as error:
        return UnitAnswer(refused=f"cannot run the unit: {error}")
    if difference:
        return UnitAnswer(refused=difference)
    with tempfile.TemporaryDirectory(prefix="unit-", dir=server().folder) as folder:
        store = Store(Path(folder))
        store.open_for_writing()
        for record in unit.beside.records:
            store.save(record)
        runner = Runner(launcher, store, methods.fingerprint, Quiet(), run_settings)
        try:
            records = runner.run(unit.specs)
        except BadInput as error:
            return UnitAnswer(refused=f"cannot run the unit: {error}")
        sidecars = [store.detail(record.key) for record in records]
    return UnitAnswer(stored=tuple(zip(records, sidecars, strict=True)))
