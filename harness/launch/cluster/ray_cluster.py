"""Run trials on the nodes of a Ray cluster, one unit at a time per node.

The driver assigns units to nodes itself, and does not leave this to Ray. So a measured trial runs
alone on its node, a unit of a lost node runs again, and each record is stored once.
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
    """Runs trials on a Ray cluster.

    Attributes:
        methods: loads methods.
        store: stores the records.
        watcher: receives the progress.
        address: address of the cluster; ``None`` starts one on this machine.
        label: resource that a node must have, for example ``jetson``; empty allows any node.
        limits: time and memory limits of a pass.
        run_settings: the settings of the run.
    """

    methods: MethodLoaders
    store: Store
    watcher: Watcher
    address: str | None = None
    label: str = ""
    limits: Limits = field(default_factory=Limits)
    run_settings: RunSettings = field(default_factory=RunSettings)

    def run(self, specs: Iterable[TrialSpec], *, again: bool = False) -> list[TrialRecord]:
        """Run the trials that are missing for this label, and return the records of all trials.

        A trial is missing if the store has no valid record of it from a node with this label.

        Raises:
            BadInput: there is no cluster at the address, no node has the label, or no node has the
                same code as this machine.
        """
        self.store.open_for_writing()
        present = CurrentConditions.asked(LocalLauncher(self.methods.load, self.limits).settings)
        fingerprint = functools.cache(self.methods.fingerprint)
        requested = {
            present.key(spec, fingerprint(spec.method), ANY_MACHINE): spec for spec in specs
        }
        there = self._of_this_label()
        stored = {} if again else standing(requested, there, self.run_settings.limits)
        missing = {key: spec for key, spec in requested.items() if key not in stored}
        if len(missing) < len(requested):
            self.watcher.say(
                f"{len(requested) - len(missing)} of {len(requested)} trials are already stored"
            )
        for line in stale(missing.items(), there, present):
            self.watcher.say(line)
        if missing:
            with _connected(self.address):
                Driver(self, self._units(requested, missing, there, present), present).drive()
        valid = standing(requested, self._of_this_label(), self.run_settings.limits)
        return [valid[key] for key in requested if key in valid]

    def _units(
        self,
        requested: Mapping[RecordKey, TrialSpec],
        missing: Mapping[RecordKey, TrialSpec],
        ours: Sequence[TrialRecord],
        present: CurrentConditions,
    ) -> list[ClusterUnit]:
        """Return the units to run, and print which stored rows are timed again."""
        named = {spec.method for spec in requested.values()} | set(self.run_settings.trusted)

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
            # If several machines have the same number of rows, the machine that was used last.
            return max(each, key=lambda stored: len(stored.records), default=Companions())

        new_units = units(list(missing.values()), companions)
        for line in timed_again((unit.specs, unit.beside) for unit in new_units):
            self.watcher.say(line)
        return new_units

    def _of_this_label(self) -> list[TrialRecord]:
        """Return the newest records of trials on any node of this label."""
        return [
            record
            for record in latest(self.store.records()[0])
            if record.circumstances.cluster is not None
            and record.circumstances.cluster.label == self.label
        ]


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one here."""
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
    """Check that a server listens at the address; Ray itself would try for minutes.

    Raises:
        BadInput: no server listens there.
    """
    host, _, port = (address or "").rpartition(":")
    if not port.isdecimal() or "://" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=LISTENER_SECONDS).close()
    except OSError as error:
        raise BadInput(
            f"no Ray cluster at {address!r} ({error.strerror or error}): expected the address that "
            "'ray start --head' printed, for example 192.0.2.7:6379"
        ) from error
