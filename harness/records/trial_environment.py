"""Where a trial ran and under which circumstances, as its record says."""

from typing import Any

import msgspec

from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.sidecar import ClockDetail

Stated = dict[str, str]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hardware and system of a machine; ``None`` where it did not say."""

    processor: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    system: str | None = None
    instruction_sets: tuple[str, ...] = ()


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may decide a trial's numbers beside its spec: machine, versions, settings.

    Attributes:
        machine_id: hash that tells this machine from another.
        machine: its hardware and system.
        device: what the device says of itself; each family of devices says other things.
        versions: package -> version; ``python`` is one of them.
        commit: of bsrbench's checkout; ``None`` outside one.
        tree_dirty: whether files differed from the commit; ``None`` outside a checkout.
        settings: all settings that decide numbers, by name; ``None`` in records of schema 5 and
            before, which do not state them.
        set_by_method: those of the settings that the method changed, with its values.
        attention_kernel: which operators computed attention; ``None`` where nothing looked.
        method: what the method says its numbers depend on (``Method.environment``).
        workload: facts about weights and data.
    """

    machine_id: str
    machine: Machine = Machine()
    device: dict[str, Any] = {}
    versions: Stated = {}
    commit: str | None = None
    tree_dirty: bool | None = None
    settings: Stated | None = None
    set_by_method: Stated = {}
    attention_kernel: str | None = None
    method: dict[str, Any] = {}
    workload: dict[str, Any] = {}

    def __post_init__(self) -> None:
        own = {"device": self.device, "method": self.method, "workload": self.workload}
        _require_storable(own | {"memory_bytes": self.machine.memory_bytes}, "environment")

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data; what is not known is left out."""
        return _plain(self)


class RecordedLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each pass of a trial was allowed to take; ``None`` is no limit.

    Attributes:
        timeout_seconds: after which a pass is ended.
        memory_bytes: of a pass's process.
        forced: whether trials ran that were predicted not to fit.
    """

    timeout_seconds: float | None = None
    memory_bytes: int | None = None
    forced: bool = False


NO_LIMITS = RecordedLimits()


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The node of a cluster that ran a trial."""

    label: str
    node: str


class Circumstances(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Under which circumstances a trial ran; they may disturb times and decide no other number.

    Attributes:
        command: the command line of the run.
        variables: environment variables that only affect times; ``None`` in records of schema 4
            and before, which do not state them.
        limits: what each pass was allowed to take; ``None`` where that was not stored.
        suite_place: the trial's place in its suite, from 0.
        order_seed: seed of the order in which trials ran.
        round_group: name of the round group it was timed in; ``None`` if it was not timed.
        round_position: its place in each round of the group, from 0.
        timing: what the clock pass recorded about each visit (stolen time, cores, and so on).
        jobs: trials that ran at the same time; ``None`` where only one may.
        cores: the cores that several such trials were given.
        pass_start_seconds: of each pass, from its request to its first line.
        passes_seconds: total time of all passes; ``None`` where that was not stored.
        not_started: the trial was predicted not to fit and did not run.
        cluster: the node that ran it; ``None`` outside a cluster.
    """

    command: str | None = None
    variables: Stated | None = None
    limits: RecordedLimits | None = None
    suite_place: int | None = None
    order_seed: int | None = None
    round_group: str | None = None
    round_position: int | None = None
    timing: ClockDetail | None = None
    jobs: int | None = None
    cores: tuple[int, ...] = ()
    pass_start_seconds: tuple[float, ...] = ()
    passes_seconds: float | None = None
    not_started: bool = False
    cluster: ClusterNode | None = None

    def __post_init__(self) -> None:
        seconds = {
            "passes_seconds": self.passes_seconds,
            "pass_start_seconds": self.pass_start_seconds,
        }
        _require_storable(seconds, "circumstances")

    def plain(self) -> dict[str, Any]:
        """Return them as JSON data; what is not known is left out."""
        return _plain(self)


class RanIn(msgspec.Struct, frozen=True):
    """Where a trial ran, and under which circumstances."""

    environment: Environment
    circumstances: Circumstances


def _require_storable(part: dict[str, Any], name: str) -> None:
    """Check numbers and nesting.

    Raises:
        ValueError: a number is out of bounds, or tables are nested too deep.
    """
    if fault := fault_in(part, name):
        raise ValueError(fault)


def _plain(part: msgspec.Struct) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(part)
    return {name: value for name, value in data.items() if value is not None}
