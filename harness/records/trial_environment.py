"""The environment and the circumstances of a trial, as its record stores them."""

from typing import Any

import msgspec

from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.sidecar import ClockDetail

Stated = dict[str, str]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hardware and operating system of a machine; ``None`` if not known."""

    processor: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    system: str | None = None
    instruction_sets: tuple[str, ...] = ()


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can affect a trial's numbers besides its spec: machine, versions, settings.

    Attributes:
        machine_id: hash that identifies the machine.
        machine: its hardware and operating system.
        device: properties that the device reports; they differ between device families.
        versions: package -> version, including ``python``.
        commit: the commit of bsrbench's checkout; ``None`` outside a checkout.
        tree_dirty: whether files differed from the commit; ``None`` outside a checkout.
        settings: all settings that affect numbers, by name; ``None`` in records of schema 5 and
            older, which do not have them.
        set_by_method: the settings that the method changed, with the method's values.
        attention_kernel: the operators that computed attention; ``None`` if not recorded.
        method: facts on which the method's numbers depend (``Method.environment``).
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
        """Return the environment as JSON data, without values that are not known."""
        return _plain(self)


class RecordedLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of each pass of a trial; ``None`` means no limit.

    Attributes:
        timeout_seconds: time after which a pass is stopped.
        memory_bytes: memory limit of the process of a pass.
        forced: whether trials ran although they were predicted not to fit into memory.
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
    """The circumstances of a trial; they can affect times, but no other number.

    Attributes:
        command: the command line of the run.
        variables: environment variables that affect only times; ``None`` in records of schema 4
            and older, which do not have them.
        limits: the limits of each pass; ``None`` if they were not stored.
        suite_place: position of the trial in its suite, counted from 0.
        order_seed: seed of the order in which trials ran.
        round_group: name of the round group in which the trial was timed; ``None`` if it was not
            timed.
        round_position: position of the trial in each round of the group, counted from 0.
        timing: what the clock pass recorded about each visit (stolen time, cores, and so on).
        jobs: number of trials that could run at the same time, without their clock passes; ``None``
            if only one could.
        cores: the cores on which this trial ran, if several trials ran at the same time.
        pass_start_seconds: for each pass, the time from its request to the first line that its
            process runs.
        passes_seconds: total time of all passes; ``None`` if it was not stored.
        not_started: whether the trial did not run because it was predicted not to fit into memory.
        cluster: the node that ran the trial; ``None`` outside a cluster.
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
        """Return the circumstances as JSON data, without values that are not known."""
        return _plain(self)


class RanIn(msgspec.Struct, frozen=True):
    """The environment and the circumstances of a trial."""

    environment: Environment
    circumstances: Circumstances


def _require_storable(part: dict[str, Any], name: str) -> None:
    """Check that a record can hold the numbers and the nesting of a part.

    Raises:
        ValueError: a number is out of bounds, or tables are nested too deep.
    """
    if fault := fault_in(part, name):
        raise ValueError(fault)


def _plain(part: msgspec.Struct) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(part)
    return {name: value for name, value in data.items() if value is not None}
