"""The Pareto front of a set of points."""

from collections.abc import Sequence

Point = tuple[float, ...]  # smaller is better for every number


def dominates(point: Point, other_point: Point) -> bool:
    """Return whether a point is better in at least one number, and worse in none."""
    pairs = list(zip(point, other_point, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def front(points: Sequence[Point]) -> list[int]:
    """Return the indices of the points that no other point dominates, with all equal points."""
    return [
        place
        for place, point in enumerate(points)
        if not any(dominates(other_point, point) for other_point in points)
    ]
