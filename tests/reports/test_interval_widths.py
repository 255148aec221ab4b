"""The command that lists the widths of the intervals of times reads them from records."""

import math

from bsrbench.harness.records.sidecar import NO_SIDECAR
from bsrbench.harness.records.store import Store
from tests.microbench.interval_widths import lines


def test_half_widths_are_those_of_the_records(make, tmp_path):
    """Logarithms -0.1, 0, 0.1: 4.303 x 0.1 / sqrt(3) = 0.2484, exp(0.2484) - 1 = 28.2 %.

    With 0.02 instead of 0.1: exp(0.0497) - 1 = 5.1 %. The reference itself is not counted.
    """
    rows = {"full": 0.0, "bsr": 0.1, "head": 0.02}
    store = Store(tmp_path)
    store.open_for_writing()
    for name, deviation in rows.items():
        times = [math.exp(deviation * place) for place in (-1, 0, 1)]
        store.save(make(name, step_seconds=times), NO_SIDECAR)

    *_, line = lines([tmp_path, tmp_path / "no folder"])

    assert " ".join(line.split()) == (
        "step_seconds all 2 ratios, half width 16.6% (5.1% to 28.2%); 0 within 3%, 0 within 5%, "
        "1 within 10%"
    )
