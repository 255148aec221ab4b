"""Find the records whose source code has changed since they were made."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.environment import PACKAGE
from bsrbench.harness.records.record_key import RecordKey
from bsrbench.harness.source_files import hash_of_files, method_files

LISTED = 12  # most methods in a line
METHODS = PACKAGE / "methods"
METHOD_CHANGED = "the method's source has changed"
MEASURING_CHANGED = "the measuring code has changed"
NOT_SHIPPED = "not checked: their methods do not come with bsrbench"
NOT_STATED = "made before record keys had hashes of measuring code and settings"


class MadeBy(NamedTuple):
    """A method, and the hashes of the sources that made its records, from the records' keys."""

    method: str
    source: str
    measuring: str | None

    @classmethod
    def of(cls, method: str, key: RecordKey) -> "MadeBy":
        """Return the method and the hashes of its sources from a key.

        Args:
            method: the method in the spec; the key may contain a shortened name.
            key: key of a record.
        """
        return cls(method, key.source, key.measuring)


def shipped_fingerprint(method: str) -> str:
    """Return the hash of the source of a method that comes with bsrbench, without loading it.

    Raises:
        BadInput: a part of the name is not a method that comes with bsrbench.
    """
    own = [METHODS / f"{part}.py" for part in method.split("+")]
    if not all(file.is_file() for file in own):
        raise BadInput(f"{method!r} is not a method that comes with bsrbench")
    return hash_of_files(method_files(own, METHODS / "parts"))


def changed_sources(old: MadeBy, source: str, measuring: str) -> list[str]:
    """Return which sources have changed since a record was made; empty if none has.

    Args:
        old: the hashes in the record's key.
        source: current hash of the method's source.
        measuring: current hash of the measuring code.
    """
    changes = [METHOD_CHANGED] if old.source != source else []
    if old.measuring is None:
        changes.append(NOT_STATED)
    elif old.measuring != measuring:
        changes.append(MEASURING_CHANGED)
    return changes


def stale_records(
    made_by: Mapping[MadeBy, int], fingerprint: Callable[[str], str], measuring: str
) -> list[str]:
    """Return one line for each reason why records are stale, with their number and methods.

    Args:
        made_by: number of records of each method and source.
        fingerprint: method name -> hash of its source; raises ``BadInput`` for an unknown method.
        measuring: current hash of the measuring code.
    """
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for old, count in made_by.items():
        try:
            why = changed_sources(old, fingerprint(old.method), measuring)
        except BadInput:
            reasons[NOT_SHIPPED][old.method] += count
        else:
            reasons[f"stale: {'; '.join(why)}" if why else ""][old.method] += count
    reasons.pop("", None)
    return [
        f"{methods.total()} records ({why}): {_counted(methods)}"
        for why, methods in reasons.items()
    ]


def _counted(methods: Counter[str]) -> str:
    """Return the number of records of each method, for at most ``LISTED`` methods."""
    listed = [f"{method} {methods[method]}" for method in sorted(methods)]
    more = [f"and {len(listed) - LISTED} more methods"] if len(listed) > LISTED else []
    return ", ".join([*listed[:LISTED], *more])
