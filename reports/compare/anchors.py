"""The two rows with which every other row is compared: the reference and the baseline."""

from collections.abc import Iterator, Sequence

from bsrbench.harness.spec.trial_spec import TrialSpec, Workload

REFERENCE = "full"
BASELINE = "bsr"


def compared_with(specs: Sequence[TrialSpec]) -> list[TrialSpec]:
    """Return the specs of the reference and of the baseline among the specs of one question.

    Each is the plain row of its method; where there is none, the method's only row, as wherever a
    row is asked for by its method's name (``bsrbench.harness.spec.row_choice``).
    """
    beside = reference_workload(specs)
    return [*_meant_by(REFERENCE, specs, beside), *_meant_by(BASELINE, specs, beside)]


def reference_workload(specs: Sequence[TrialSpec]) -> Workload:
    """Return the workload of the plain reference row, or of the first row if there is none.

    Of several rows of the reference method the one with the fewest axes set counts, whatever the
    order in which they were measured.
    """
    named = [spec for spec in specs if spec.method == REFERENCE and not spec.options]
    return min(named or specs[:1], key=lambda spec: len(spec.workload.axes())).workload


def _meant_by(method: str, specs: Sequence[TrialSpec], beside: Workload) -> Iterator[TrialSpec]:
    own = [spec for spec in specs if spec.method == method]
    plain = [spec for spec in own if not spec.options and not spec.workload.axes(beside=beside)]
    if plain or len({spec.row_id() for spec in own}) == 1:
        yield from plain or own
