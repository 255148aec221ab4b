"""What decides numbers here and now, and why a stored record was made under something else."""

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
    """What decides the numbers of a trial beside its spec, its method's source and the machine.

    Attributes:
        settings: type of device -> settings of the processes that passes run in.
        versions: of the packages that are installed.
        measuring: hash of the source that measures.
    """

    settings: Callable[[str], dict[str, str]] = _nothing_asked
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    measuring: str = field(default_factory=measuring_hash)

    @classmethod
    def asked(cls, settings: Callable[[str], dict[str, str]]) -> "CurrentConditions":
        """Return the present of a launcher, which is asked once for each device."""
        return cls(functools.cache(settings))

    def key(self, spec: TrialSpec, source: str, machine: str) -> RecordKey:
        """Return the key of the record that a trial would have.

        Args:
            spec: the trial.
            source: hash of its method's source.
            machine: id of the machine that it runs on.
        """
        how = settings_hash(spec, self.versions, self.settings(spec.workload.device))
        name = in_file_name(spec.method)
        return RecordKey(name, spec.trial_id(), source, self.measuring, how, machine)

    def why_again(
        self, spec: TrialSpec, key: RecordKey, old: RecordKey, record: TrialRecord
    ) -> str:
        """Return why a record of a trial cannot stand for the one that would be made now.

        Args:
            spec: the trial.
            key: of the record that would be made.
            old: of the one that there is.
            record: that one.
        """
        sources = changed_sources(MadeBy.of(spec.method, old), key.source, self.measuring)
        reasons = [*sources, *self._settings(spec, old, record)]
        if key.machine not in (ANY_MACHINE, old.machine):
            reasons = ["measured on another machine", *reasons]
        return "; ".join(reasons) or "its key does not fit what it states"

    def _settings(self, spec: TrialSpec, old: RecordKey, record: TrialRecord) -> list[str]:
        then, now = (
            deciding_versions(spec, versions)
            for versions in (record.environment.versions, self.versions)
        )
        if old.settings is None:  # it knew fewer packages, and stated no settings
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
    """Return in a phrase what is other now; nothing where all is the same."""
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    told = [f"{n} {then.get(n, NOT_SET)}, now {now.get(n, NOT_SET)}" for n in names]
    return [f"{what}: {' and '.join(told)}"] if told else []
