"""The metrics that a figure shows, and their names in it."""

from bsrbench.harness.records.metric import FigureName, FigurePart
from bsrbench.harness.records.metrics import METRICS


def metrics_of(figure: FigureName) -> dict[str, FigurePart]:
    """Return, by name and in order, how a figure shows each of its metrics."""
    parts = {
        name: part
        for name, metric in METRICS.items()
        for part in metric.figures
        if part.figure == figure
    }
    return dict(sorted(parts.items(), key=lambda item: item[1].place))
