"""The metrics of each figure, and their names in the figure."""

from bsrbench.harness.records.metric import FigureName, FigurePart
from bsrbench.harness.records.metrics import METRICS


def metrics_of(figure: FigureName) -> dict[str, FigurePart]:
    """Return the metrics of a figure in order, each with its place and texts in the figure."""
    parts = {
        name: part
        for name, metric in METRICS.items()
        for part in metric.figures
        if part.figure == figure
    }
    return dict(sorted(parts.items(), key=lambda item: item[1].place))
