"""The current conditions that affect numbers, and how a stored record's conditions differ."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bsrbench.harness.records.environment import installed_versions
from bsrbench.harness.records.measuring_source import measuring_hash
from bsrbench.harness.records.record_key import (
    ANY_MACHINE,
    RecordKey,
    deciding_versions,
    in_file_name,
    settings_hash,
)
from bsrbench.harness.records.staleness import MadeBy, changed_sources
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec

NOT_SET = "not set"


def _nothing_asked(device: str) -> dict[str, str]:  # noqa: ARG001 - for tests of plans alone
    return {}


@dataclass(frozen=True)
class CurrentConditions:
    """Everything that affects a trial's numbers, except its spec, method source and machine.

    Attributes:
        settings: device type -> settings of the processes in which passes run.
        versions: installed package -> version.
        measuring: hash of the measuring code.
    """

    settings: Callable[[str], dict[str, str]] = _nothing_asked
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    measuring: str = field(default_factory=measuring_hash)

    @classmethod
    def asked(cls, settings: Callable[[str], dict[str, str]]) -> "CurrentConditions":
        """Return the current conditions; ``settings`` is called once for each device."""
        return cls(functools.cache(settings))

    def key(self, spec: TrialSpec, source: str, machine: str) -> RecordKey:
        """Return the key that the record of a trial would get now.

        Args:
            spec: the trial.
            source: hash of its method's source.
            machine: id of the machine on which it runs.
        """
        how = settings_hash(spec, self.versions, self.settings(spec.workload.device))
        name = in_file_name(spec.method)
        return RecordKey(name, spec.trial_id(), source, self.measuring, how, machine)

    def why_again(
        self, spec: TrialSpec, key: RecordKey, old: RecordKey, record: TrialRecord
    ) -> str:
        """Return why a stored record of a trial is not valid under the current conditions.

        Args:
            spec: the trial.
            key: the key that a new record would get.
            old: the key of the stored record.
            record: the stored record.
        """
        sources = changed_sources(MadeBy.of(spec.method, old), key.source, self.measuring)
        reasons = [*sources, *self._settings(spec, old, record)]
        if key.machine not in (ANY_MACHINE, old.machine):
            reasons = ["measured on another machine", *reasons]
        return "; ".join(reasons) or "its key does not match its content"

    def _settings(self, spec: TrialSpec, old: RecordKey, record: TrialRecord) -> list[str]:
        then, now = (
            deciding_versions(spec, versions)
            for versions in (record.environment.versions, self.versions)
        )
        if old.settings is None:  # an old record, with fewer packages and no settings
            stated = record.environment.versions
            then = {name: version for name, version in then.items() if name in stated}
            now = {name: now[name] for name in then}
            return _differing("measured with other versions", then, now)
        before = record.environment.settings or {}
        present = self.settings(spec.workload.device)
        return [
            *_differing("measured with other versions", then, now),
            *_differing("measured under other settings", before, present),
        ]


def _differing(what: str, then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a phrase that lists the differences; empty if there are none."""
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    differences = [f"{n} {then.get(n, NOT_SET)}, now {now.get(n, NOT_SET)}" for n in names]
    return [f"{what}: {' and '.join(differences)}"] if differences else []
