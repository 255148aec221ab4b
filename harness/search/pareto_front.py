"""The Pareto front of a set of points."""

from collections.abc import Sequence

Point = tuple[float, ...]  # smaller is better for every number


def dominates(point: Point, other: Point) -> bool:
    """Return whether a point is nowhere worse than another, and better in at least one number."""
    pairs = list(zip(point, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates; equal points all count."""
    return [
        place
        for place, point in enumerate(points)
        if not any(dominates(other, point) for other in points)
    ]
