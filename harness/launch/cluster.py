"""Run trials on the nodes of a Ray cluster: one unit at a time on each, records streaming back.

The driver hands out units itself, so that it alone decides what runs where: a measured trial has
its node to itself, a unit whose node is lost goes to another, and a record is stored once.
"""

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import ray

from harness.errors import BadInput
from harness.launch.companions import Companions, companions_of
from harness.launch.conduct import Conduct
from harness.launch.driver import Driver
from harness.launch.limits import Limits
from harness.launch.outline import timed_again
from harness.launch.plan import LIMITED, STALE, why_not_run
from harness.launch.progress import Watcher
from harness.launch.unit import Methods, Unit, units
from harness.record import TrialRecord
from harness.spec import TrialSpec
from harness.store import Store

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
        conduct: how a unit's trials are done.
    """

    methods: Methods
    store: Store
    watcher: Watcher
    address: str | None = None
    label: str = ""
    limits: Limits = field(default_factory=Limits)
    conduct: Conduct = field(default_factory=Conduct)

    def run(self, specs: Iterable[TrialSpec], *, again: bool = False) -> list[TrialRecord]:
        """Run what has no record from such a node yet, and return the records of all trials.

        Raises:
            BadInput: no cluster at the address, no node with the label, or none with our code.
        """
        self.store.open_for_writing()
        wanted = list(specs)
        stored = {} if again else self._stored(wanted)
        missing = [spec for spec in wanted if self._name(spec) not in stored]
        if len(missing) < len(wanted):
            self.watcher.say(
                f"{len(wanted) - len(missing)} of {len(wanted)} trials are stored already"
            )
        if missing:
            with _connected(self.address):
                Driver(self, self._units(wanted, missing)).drive()
        found = self._stored(wanted)
        return [found[self._name(spec)] for spec in wanted if self._name(spec) in found]

    def _units(self, wanted: list[TrialSpec], missing: list[TrialSpec]) -> list[Unit]:
        """Return what is to be handed out, and say which stored rows are timed again."""
        ours = [r for r in self.store.records()[0] if self._is_ours(r)]
        named = {spec.method for spec in wanted} | set(self.conduct.trusted)

        def why_not(record: TrialRecord) -> str:
            if why := why_not_run(record.spec.method, named):
                return why
            try:
                return "" if self._name(record.spec) == _name_in(record) else STALE
            except BadInput as error:
                return str(error)

        def companions(new: Sequence[TrialSpec]) -> Companions:
            machines = dict.fromkeys(str(r.environment["machine_id"]) for r in reversed(ours))
            each = [
                companions_of(
                    new,
                    [r for r in ours if r.environment["machine_id"] == machine],
                    why_not,
                    self.conduct.compared_with,
                )
                for machine in machines
            ]
            # Of machines with as many, the one that was used last.
            return max(each, key=lambda found: len(found.records), default=Companions())

        found = units(missing, companions)
        for line in timed_again((unit.specs, unit.beside) for unit in found):
            self.watcher.say(line)
        return found

    def _name(self, spec: TrialSpec) -> tuple[str, str]:
        return spec.trial_id(), self.methods.fingerprint(spec.method)

    def _stored(self, specs: list[TrialSpec]) -> dict[tuple[str, str], TrialRecord]:
        """Return the records of trials that ran on a node of this label, whichever it was."""
        names = {self._name(spec) for spec in specs}
        found: dict[tuple[str, str], TrialRecord] = {}
        for record in self.store.records()[0]:
            name = _name_in(record)
            if name in names and self._is_ours(record):
                retry = record.outcome.status in LIMITED and record.environment.get("limits")
                if not retry or retry == self.unit_limits():
                    found[name] = record
        return found

    def _is_ours(self, record: TrialRecord) -> bool:
        """Return whether a record comes from a node of this label."""
        of = record.environment.get("cluster") or {}
        return bool(of.get("label") == self.label)

    def unit_limits(self) -> dict[str, Any]:
        """Return what passes may take, as a node's runner writes it into records."""
        return asdict(self.limits) | {"forced": self.conduct.force}


def _name_in(record: TrialRecord) -> tuple[str, str]:
    """Return the trial and the source that a record's key names."""
    *_, trial, source, _ = record.key.rsplit("-", 3)
    return trial, source


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
