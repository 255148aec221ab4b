"""Memory and FLOPs of every candidate, predicted once and kept."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import read_bytes, write_whole
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.search.search_question import SearchQuestion
from bsrbench.harness.search.search_space import Candidate
from bsrbench.harness.spec.trial_spec import TrialSpec

AT_A_TIME = 16  # candidates a process predicts: starting one takes as long as predicting one

MOST_KEPT = 2**28  # bytes of a file of predictions: about two million
# Named with their types, since whoever sends a folder may have written the file.
KEPT = TypeAdapter(dict[str, StepCost])

Ask = Callable[[list[TrialSpec]], list[StepCost]]


def predict_all(
    candidates: Sequence[Candidate],
    ask: Ask,
    decides: Callable[[str], str],
    path: Path,
    *,
    jobs: int,
    tell: Callable[[int, int], object],
) -> dict[str, StepCost]:
    """Return what each candidate takes, by its row's id.

    Args:
        candidates: all of them.
        ask: predicts some, in a process of its own.
        decides: method name -> hashes of all that decides its predictions; what was predicted
            under others is predicted again.
        path: where predictions are kept, so that none is made twice.
        jobs: processes at a time.
        tell: is told how many of how many are done.
    """
    names = {candidate.row_id: _name(candidate.spec, decides) for candidate in candidates}
    kept = _read(path)
    missing = [c.spec for c in candidates if names[c.row_id] not in kept]
    parts = [missing[first : first + AT_A_TIME] for first in range(0, len(missing), AT_A_TIME)]
    with ThreadPoolExecutor(jobs) as pool:
        asked = {pool.submit(ask, part): part for part in parts}
        for done in as_completed(asked):
            for spec, cost in zip(asked[done], done.result(), strict=True):
                kept[names[spec.row_id()]] = cost
            _write(path, kept)
            tell(sum(name in kept for name in names.values()), len(names))
    return {row: kept[name] for row, name in names.items()}


def _name(spec: TrialSpec, decides: Callable[[str], str]) -> str:
    return f"{spec.row_id()}-{decides(spec.method)}"


def _read(path: Path) -> dict[str, StepCost]:
    """Return what is kept; a file that cannot be used is as good as none."""
    try:
        return KEPT.validate_json(read_bytes(path, MOST_KEPT), strict=True)
    except (OSError, ValueError):
        return {}


def _write(path: Path, kept: dict[str, StepCost]) -> None:
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(asdict(c))}" for name, c in kept.items())
    write_whole(path, f"{{\n{lines}\n}}\n")


def require_one_that_fits(
    candidates: Sequence[Candidate], costs: dict[str, StepCost], goal: SearchQuestion
) -> None:
    """Check that the budget is enough for something.

    Raises:
        BadInput: it is not; the smallest candidate is named.
    """
    known = [c for c in candidates if not costs[c.row_id].reason]
    if not known:
        reasons = sorted({costs[c.row_id].reason for c in candidates})
        raise BadInput(f"no candidate can be predicted: {'; '.join(reasons[:3])}")
    smallest = min(known, key=lambda c: costs[c.row_id].peak_bytes)
    least = costs[smallest.row_id].peak_bytes
    if least > goal.memory_bytes:
        raise BadInput(
            f"nothing fits into {goal.memory_bytes} bytes: of {len(candidates)} candidates the "
            f"smallest needs {least} ({smallest.spec.label()}); allow that much, or take smaller "
            "images, a smaller batch or model"
        )


def refusals(costs: Collection[StepCost]) -> list[str]:
    """Return for each reason, in words, how many candidates it keeps from being predicted."""
    counts = Counter(cost.reason for cost in costs if cost.reason)
    return [
        f"{count} of {len(costs)} candidates cannot be predicted: {reason}"
        for reason, count in counts.most_common()
    ]
