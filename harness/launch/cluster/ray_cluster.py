"""Run trials on the nodes of a Ray cluster: one unit at a time on each, records streaming back.

The driver hands out units itself, so that it alone decides what runs where: a measured trial has
its node to itself, a unit whose node is lost goes to another, and a record is stored once.
"""

import functools
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import ray

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.cluster.cluster_driver import Driver
from bsrbench.harness.launch.cluster.cluster_unit import ClusterUnit, MethodLoaders, units
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.launch.planning.companions import Companions, companions_of
from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.launch.planning.run_outline import timed_again
from bsrbench.harness.launch.planning.stale_trials import stale
from bsrbench.harness.launch.planning.stored_trials import standing, why_not_timed_again
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.progress import Watcher
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.records.record_key import ANY_MACHINE, RecordKey
from bsrbench.harness.records.store import Store, latest
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec

LISTENER_SECONDS = 5.0


@dataclass(frozen=True)
class Cluster:
    """Where trials run.

    Attributes:
        methods: how they are found.
        store: where records go.
        watcher: who is told.
        address: of the cluster; ``None`` is one on this machine alone.
        label: a resource that a node must have, ``jetson`` say; any node if empty.
        limits: what a pass may take.
        run_settings: how a unit's trials are done.
    """

    methods: MethodLoaders
    store: Store
    watcher: Watcher
    address: str | None = None
    label: str = ""
    limits: Limits = field(default_factory=Limits)
    run_settings: RunSettings = field(default_factory=RunSettings)

    def run(self, specs: Iterable[TrialSpec], *, again: bool = False) -> list[TrialRecord]:
        """Run what has no record from such a node yet, and return the records of all trials.

        Raises:
            BadInput: no cluster at the address, no node with the label, or none with our code.
        """
        self.store.open_for_writing()
        present = CurrentConditions.asked(LocalLauncher(self.methods.load, self.limits).settings)
        fingerprint = functools.cache(self.methods.fingerprint)
        wanted = {present.key(spec, fingerprint(spec.method), ANY_MACHINE): spec for spec in specs}
        there = self._of_this_label()
        stored = {} if again else standing(wanted, there, self.run_settings.limits)
        missing = {key: spec for key, spec in wanted.items() if key not in stored}
        if len(missing) < len(wanted):
            self.watcher.say(
                f"{len(wanted) - len(missing)} of {len(wanted)} trials are already stored"
            )
        for line in stale(missing.items(), there, present):
            self.watcher.say(line)
        if missing:
            with _connected(self.address):
                Driver(self, self._units(wanted, missing, there, present), present).drive()
        found = standing(wanted, self._of_this_label(), self.run_settings.limits)
        return [found[key] for key in wanted if key in found]

    def _units(
        self,
        wanted: Mapping[RecordKey, TrialSpec],
        missing: Mapping[RecordKey, TrialSpec],
        ours: Sequence[TrialRecord],
        present: CurrentConditions,
    ) -> list[ClusterUnit]:
        """Return what is to be handed out, and say which stored rows are timed again."""
        named = {spec.method for spec in wanted.values()} | set(self.run_settings.trusted)

        why_not = why_not_timed_again(named, self.methods.fingerprint, present)

        def companions(new: Sequence[TrialSpec]) -> Companions:
            machines = dict.fromkeys(r.environment.machine_id for r in reversed(ours))
            each = [
                companions_of(
                    new,
                    [r for r in ours if r.environment.machine_id == machine],
                    why_not,
                    self.run_settings.compared_with,
                )
                for machine in machines
            ]
            # Of machines with as many, the one that was used last.
            return max(each, key=lambda found: len(found.records), default=Companions())

        found = units(list(missing.values()), companions)
        for line in timed_again((unit.specs, unit.beside) for unit in found):
            self.watcher.say(line)
        return found

    def _of_this_label(self) -> list[TrialRecord]:
        """Return the newest records of trials on nodes of this label, whichever these were."""
        return [
            record
            for record in latest(self.store.records()[0])
            if record.circumstances.cluster is not None
            and record.circumstances.cluster.label == self.label
        ]


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Join a cluster, or start one here."""
    ours = not ray.is_initialized()
    if ours:
        _require_listener(address)
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise BadInput(f"no Ray cluster at {address!r}: {first}") from error
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _require_listener(address: str | None) -> None:
    """Look whether anything listens there; Ray itself would try for minutes.

    Raises:
        BadInput: nothing does.
    """
    host, _, port = (address or "").rpartition(":")
    if not port.isdecimal() or "://" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=LISTENER_SECONDS).close()
    except OSError as error:
        raise BadInput(
            f"no Ray cluster at {address!r} ({error.strerror or error}): expected what 'ray start "
            "--head' printed, as 192.0.2.7:6379"
        ) from error
