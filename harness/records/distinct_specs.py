"""Tell equal specs from others without hashing the whole of each."""

import json
from collections.abc import Hashable

from bsrbench.harness.spec.trial_spec import TrialSpec


class DistinctSpecs:
    """Tells whether specs are the same, or of one row, and hashes each of their parts once.

    A report over a hundred thousand records asks for that several times a record, and their
    parts are few.
    """

    def __init__(self) -> None:
        self._of_object: dict[int, int] = {}
        self._of_value: dict[Hashable, int] = {}
        self._kept: list[Hashable] = []  # as long as an object lives nobody else has its id

    def of_row(self, spec: TrialSpec) -> Hashable:
        """Return what specs have in common that differ only in seed or in what was measured."""
        options = json.dumps(spec.options, sort_keys=True) if spec.options else ""
        return spec.method, options, self._number(spec.workload)

    def of_trial(self, spec: TrialSpec) -> Hashable:
        """Return what two specs have in common only if they are the same."""
        parts = self._number(spec.training), self._number(spec.profile)
        return self.of_row(spec), parts, spec.seed

    def _number(self, part: Hashable) -> int:
        number = self._of_object.get(id(part))
        if number is None:
            number = self._of_value.setdefault(part, len(self._of_value))
            self._of_object[id(part)] = number
            self._kept.append(part)
        return number
