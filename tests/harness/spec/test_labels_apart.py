"""Labels of several trials tell their rows apart."""

from bsrbench.harness.spec.labels_apart import labels_apart
from bsrbench.harness.spec.row_name import RowLabel


def test_rows_that_differ_only_in_usual_optimizers_state_them(make_spec):
    """Alone, neither would; seeds of one row do not differ."""
    specs = [
        make_spec(),
        make_spec(optimizer="adamw"),
        make_spec(optimizer="lion"),
        make_spec(optimizer="adamw", micro_batch=2),
        make_spec("bsr", optimizer="adamw"),
        make_spec("bsr", optimizer="adamw", seed=1),
    ]
    labels = labels_apart(specs)

    assert labels == [
        "full (sgd)",
        "full (adamw)",
        "full (lion)",
        "full (micro-batch 2)",
        "bsr",
        "bsr",
    ]
    assert str(RowLabel.parse(labels[1])) == labels[1]
