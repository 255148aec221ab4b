"""Predict memory and FLOPs of every candidate once, and store the predictions."""

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

AT_A_TIME = 16  # candidates per process; starting a process takes as long as one prediction

MOST_KEPT = 2**28  # size limit of a file of predictions: about two million
# Validated strictly, because the file may come from somebody else.
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
    """Return row id -> predicted cost, for every candidate.

    Args:
        candidates: all candidates.
        ask: predicts several candidates in a separate process.
        decides: method name -> hashes of everything that its predictions depend on. If a hash has
            changed, the prediction is made again.
        path: the file of stored predictions.
        jobs: number of processes that run at the same time.
        tell: called with the number of finished predictions and the number of all predictions.
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
    """Return the stored predictions; empty if the file cannot be used."""
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
    """Check that at least one candidate fits in the budget.

    Raises:
        BadInput: none fits; the message names the smallest candidate.
    """
    known = [c for c in candidates if not costs[c.row_id].reason]
    if not known:
        reasons = sorted({costs[c.row_id].reason for c in candidates})
        raise BadInput(f"no candidate can be predicted: {'; '.join(reasons[:3])}")
    smallest = min(known, key=lambda c: costs[c.row_id].peak_bytes)
    least = costs[smallest.row_id].peak_bytes
    if least > goal.memory_bytes:
        raise BadInput(
            f"no candidate fits in {goal.memory_bytes} bytes: the smallest of {len(candidates)} "
            f"needs {least} ({smallest.spec.label()}); raise --memory, or use smaller images, a "
            "smaller batch, a smaller model, or optimizers with less state (--optimizers)"
        )


def refusals(costs: Collection[StepCost]) -> list[str]:
    """Return one line for each reason why candidates cannot be predicted, with their number."""
    counts = Counter(cost.reason for cost in costs if cost.reason)
    return [
        f"{count} of {len(costs)} candidates cannot be predicted: {reason}"
        for reason, count in counts.most_common()
    ]
