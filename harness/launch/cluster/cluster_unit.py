"""Trials that must run on one node of a cluster, and the task that runs them there."""

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
    """How methods are found; functions that another process can import by name.

    Attributes:
        load: turns a name and options into a method.
        fingerprint: name -> hash of the method's source.
    """

    load: Loader
    fingerprint: Callable[[str], str]


@dataclass(frozen=True)
class UnitAnswer:
    """What a node made of a unit.

    Attributes:
        refused: why it ran nothing; empty where it did.
        stored: records, with their sidecars.
    """

    refused: str = ""
    stored: tuple[tuple[TrialRecord, Sidecar], ...] = ()


@dataclass(frozen=True)
class NodeConditions:
    """What must be the same on every node.

    Attributes:
        code: our source, the methods', the libraries: name -> hash or version.
        settings: that decide numbers.
    """

    code: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class ClusterUnit:
    """Trials that must run on one node: those of a round group, or one alone.

    Attributes:
        specs: the trials.
        beside: the stored trials that are timed again in turns with them.
        machine: where those were measured, and are to be measured again; empty without any.
        tries: how often a worker died over it.
    """

    specs: list[TrialSpec]
    beside: Companions = NOBODY
    machine: str = ""
    tries: int = 0

    def methods(self) -> list[str]:
        """Return the methods of all its trials, those that are timed again among them."""
        return [spec.method for spec in (*self.specs, *(one.spec for one in self.beside.records))]

    def on_gpu(self) -> bool:
        """Return whether it needs one of the node's GPUs."""
        return self.specs[0].workload.device.startswith("cuda")

    def label(self) -> str:
        """Return the unit in words."""
        first = self.specs[0]
        more = f" and {len(self.specs) - 1} more" if len(self.specs) > 1 else ""
        return f"{first.label()}, seed {first.seed}{more}"


def units(
    specs: Sequence[TrialSpec], companions: Callable[[Sequence[TrialSpec]], Companions]
) -> list[ClusterUnit]:
    """Return timed trials of one question together, and every other trial alone.

    Args:
        specs: the trials.
        companions: returns the stored trials of one machine that are timed again beside some.
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
    """Return what must be the same on every node: our source, the methods', the libraries."""
    versions = installed_versions()
    return (
        {"bsrbench": source_hash()}
        | {name: versions.get(name, "none") for name in (*COMPUTING, *READING_IMAGES)}
        | {f"method {name}": fingerprint(name) for name in sorted(set(names))}
    )


def _other(what: str, here: dict[str, str], wanted: dict[str, str]) -> str:
    """Return in words what a node has otherwise than it should; empty where it has nothing."""
    names = [name for name in {**wanted, **here} if here.get(name) != wanted.get(name)]
    told = [f"{name} {here.get(name, NOT_SET)} for {wanted.get(name, NOT_SET)}" for name in names]
    return f"has other {what} ({', '.join(told)})" if told else ""


@functools.cache
def _launcher(load: Loader, limits: Limits) -> LocalLauncher:
    """Return this worker's launcher, whose fork server serves all its units."""
    return LocalLauncher(load, limits)


@ray.remote
def machine_of_node() -> str:
    """Return the id of the machine that this node is."""
    return machine_id()


@ray.remote
def run_unit(
    unit: ClusterUnit,
    methods: MethodLoaders,
    limits: Limits,
    run_settings: RunSettings,
    conditions: NodeConditions,
) -> UnitAnswer:
    """Run a unit on this node, in processes of its own, and return its records and sidecars.

    Args:
        unit: the trials, and the stored ones that are timed again in turns with them.
        methods: how methods are found.
        limits: what a pass may take.
        run_settings: how it is done.
        conditions: what must be the same here.
    """
    launcher = _launcher(methods.load, limits)
    try:
        here = code_of(unit.methods(), methods.fingerprint)
        other = _other("code", here, conditions.code) or _other(
            "settings", launcher.settings(unit.specs[0].workload.device), conditions.settings
        )
    except BadInput as error:
        return UnitAnswer(refused=f"cannot run it: {error}")
    if other:
        return UnitAnswer(refused=other)
    with tempfile.TemporaryDirectory(prefix="unit-", dir=server().folder) as folder:
        store = Store(Path(folder))
        store.open_for_writing()
        for record in unit.beside.records:
            store.save(record)
        runner = Runner(launcher, store, methods.fingerprint, Quiet(), run_settings)
        try:
            records = runner.run(unit.specs)
        except BadInput as error:
            return UnitAnswer(refused=f"cannot run it: {error}")
        sidecars = [store.detail(record.key) for record in records]
    return UnitAnswer(stored=tuple(zip(records, sidecars, strict=True)))
