"""Find the records whose source code has changed since they were made."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.record_key import RecordKey

METHOD_CHANGED = "the method's source has changed"
MEASURING_CHANGED = "the measuring code has changed"
NOT_HERE = "their method cannot be loaded here"
NOT_STATED = "older than the hashes of measuring code and settings in record keys"


class MadeBy(NamedTuple):
    """A method, and the sources that made records of it, as their keys state them."""

    method: str
    source: str
    measuring: str | None

    @classmethod
    def of(cls, method: str, key: RecordKey) -> "MadeBy":
        """Return the method and the sources that a key states.

        Args:
            method: the method in the spec; the key may contain a shortened name.
            key: key of a record.
        """
        return cls(method, key.source, key.measuring)


def changed_sources(old: MadeBy, source: str, measuring: str) -> list[str]:
    """Return which sources have changed since a record was made; empty if none has.

    Args:
        old: the sources that the record's key states.
        source: current hash of the method's source.
        measuring: current hash of the measuring code.
    """
    found = [METHOD_CHANGED] if old.source != source else []
    if old.measuring is None:
        found.append(NOT_STATED)
    elif old.measuring != measuring:
        found.append(MEASURING_CHANGED)
    return found


def stale_records(
    made_by: Mapping[MadeBy, int], fingerprint: Callable[[str], str], measuring: str
) -> list[str]:
    """Return one line for each reason why records are stale, with their number and methods.

    Args:
        made_by: number of records of each method and source.
        fingerprint: method name -> hash of its source; raises ``BadInput`` for an unknown method.
        measuring: current hash of the measuring code.
    """
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for old, count in sorted(made_by.items(), key=lambda item: item[0].method):
        try:
            reasons = changed_sources(old, fingerprint(old.method), measuring)
        except BadInput:
            reasons = [NOT_HERE]
        if reasons:
            counts["; ".join(reasons)][old.method] += count
    return [
        f"{sum(methods.values())} records are stale ({why}): "
        + ", ".join(f"{method} {count}" for method, count in methods.items())
        for why, methods in counts.items()
    ]
