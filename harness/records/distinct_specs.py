"""Find equal specs quickly, without hashing each of them completely."""

import json
from collections.abc import Hashable

from bsrbench.harness.spec.trial_spec import TrialSpec


class DistinctSpecs:
    """Creates keys that are equal for equal specs or equal rows; hashes each part of a spec once.

    A report needs such keys several times for each of up to a hundred thousand records. The specs
    of these records have few different parts.
    """

    def __init__(self) -> None:
        self._of_object: dict[int, int] = {}
        self._of_value: dict[Hashable, int] = {}
        self._kept: list[Hashable] = []  # keeps the objects alive, so that their ids stay unique

    def of_row(self, spec: TrialSpec) -> Hashable:
        """Return a key that is equal for specs of the same row."""
        options = json.dumps(spec.options, sort_keys=True) if spec.options else ""
        return spec.method, options, self._number(spec.workload)

    def of_trial(self, spec: TrialSpec) -> Hashable:
        """Return a key that is equal only for equal specs."""
        parts = self._number(spec.training), self._number(spec.profile)
        return self.of_row(spec), parts, spec.seed

    def _number(self, part: Hashable) -> int:
        number = self._of_object.get(id(part))
        if number is None:
            number = self._of_value.setdefault(part, len(self._of_value))
            self._of_object[id(part)] = number
            self._kept.append(part)
        return number
