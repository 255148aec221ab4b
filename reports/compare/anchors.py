"""The two rows with which every other row is compared: the reference and the baseline."""

from collections import Counter
from collections.abc import Iterator, Sequence

from bsrbench.harness.spec.trial_spec import TrialSpec, Workload

REFERENCE = "full"
BASELINE = "bsr"


def compared_with(specs: Sequence[TrialSpec]) -> list[TrialSpec]:
    """Return the specs of the reference and of the baseline among the specs of one question.

    For each of the two methods this is the plain row: no options, and the axes of the reference.
    A method without a plain row is represented by its only row; if it has several rows, by none.
    ``bsrbench.harness.spec.row_choice`` uses the same rule for every method's name.
    """
    beside = reference_workload(specs)
    return [*_meant_by(REFERENCE, specs, beside), *_meant_by(BASELINE, specs, beside)]


def reference_workload(specs: Sequence[TrialSpec]) -> Workload:
    """Return the workload of the plain reference row, or of the first row if there is none.

    If the reference method has several rows without options, use the row with the fewest axes; of
    several such rows (sgd and adamw go without saying), the one whose optimizer most specs have.
    So the result hardly depends on the order in which they were measured.
    """
    named = [spec for spec in specs if spec.method == REFERENCE and not spec.options]
    having = Counter(spec.workload.optimizer_in_words() for spec in specs) if named[1:] else {}

    def rank(spec: TrialSpec) -> tuple[int, int]:
        of_optimizer = having[spec.workload.optimizer_in_words()] if having else 0
        return len(spec.workload.axes()), -of_optimizer

    return min(named or specs[:1], key=rank).workload


def _meant_by(method: str, specs: Sequence[TrialSpec], beside: Workload) -> Iterator[TrialSpec]:
    own = [spec for spec in specs if spec.method == method]
    plain = [spec for spec in own if not spec.options and not spec.workload.axes(beside=beside)]
    if plain or len({spec.row_id() for spec in own}) == 1:
        yield from plain or own
