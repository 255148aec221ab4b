"""The work of a run in pieces, and how long the rest takes, judged by the pieces that are done."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

Key = tuple[str | int, ...]
RECENT = 8  # observations of a kind that count; a neighbour comes and goes
PRIOR_WEIGHT = 0.25  # of what is known without a kind's own pieces, as a number of pieces
# A piece that takes longer than expected is expected to take this share of its time once more. So
# the time left grows while nothing ends, and does not stay at 0.
OVERRUN = 0.2
ENOUGH_SHARE = 0.1  # of a running piece that must be done to say something about others
SMALL_SECONDS = 0.05  # shorter pieces say nothing about the speed
BY_FLOOR = 1.2  # a floor of this many times the prediction decides how long a piece takes


@dataclass(frozen=True)
class Piece:
    """A part of a run, for example a pass of a trial or a generation of a round group.

    Attributes:
        kind: pieces of a kind deviate from their predictions in the same way.
        seconds: predicted time; ``None`` if it cannot be predicted.
        floor_seconds: the piece goes on for at least so long.
        lanes: number of pieces that run at the same time.
    """

    kind: str
    seconds: float | None
    floor_seconds: float = 0.0
    lanes: int = 1

    def expected_seconds(self) -> float | None:
        """Return the predicted time with its floor; ``None`` if it cannot be predicted."""
        return None if self.seconds is None else max(self.seconds, self.floor_seconds)

    def shows_speed(self) -> bool:
        """Return whether its time tells how fast the machine is."""
        return self.floor_seconds <= BY_FLOOR * (self.seconds or 0.0)


@dataclass(frozen=True)
class _Running:
    """A piece that runs: when it began, and the share of it that was done at a time."""

    piece: Piece
    began: float
    share: float = 0.0
    share_at: float = 0.0

    def total_by_share(self) -> float | None:
        """Return the time that it takes if it goes on as it began; ``None`` if not known."""
        return (self.share_at - self.began) / self.share if self.share > 0 else None


@dataclass
class WorkLeft:
    """The pieces of a run that are not done, and how fast the others were.

    Attributes:
        pieces: the pieces that have not begun, in any order.
        now: the clock.
    """

    pieces: dict[Key, Piece] = field(default_factory=dict)
    now: Callable[[], float] = time.monotonic
    _running: dict[Key, _Running] = field(default_factory=dict)
    # kind -> logarithms of actual divided by expected time; "" has those that show the speed
    _logs: dict[str, list[float]] = field(default_factory=dict)
    _took: dict[str, list[float]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, key: Key) -> None:
        """Begin a piece; nothing happens if it is not known."""
        with self._lock:
            piece = self.pieces.pop(key, None)
            if piece is not None:
                self._running[key] = _Running(piece, self.now())

    def note_share(self, key: Key, share: float) -> None:
        """Note the share of a running piece that is done, from 0 to 1."""
        with self._lock:
            running = self._running.get(key)
            if running is not None and share > running.share:
                done = replace(running, share=min(1.0, share), share_at=self.now())
                self._running[key] = done

    def end(self, key: Key) -> None:
        """End a piece, and learn from it how long others of its kind take."""
        with self._lock:
            running = self._running.pop(key, None)
            self.pieces.pop(key, None)
            if running is None:
                return
            took, piece = self.now() - running.began, running.piece
            self._took.setdefault(piece.kind, []).append(took)
            for kind, log in _observations(piece, took):
                self._logs.setdefault(kind, []).append(log)

    def drop(self, keys: Iterable[Key]) -> None:
        """Leave out pieces that will not be done, or that have failed."""
        with self._lock:
            for key in list(keys):
                self.pieces.pop(key, None)
                self._running.pop(key, None)

    def add(self, pieces: Mapping[Key, Piece]) -> None:
        """Add pieces, or replace those with the same keys."""
        with self._lock:
            self.pieces.update(pieces)

    def left_seconds(self) -> float | None:
        """Return the time until all pieces are done; ``None`` if too little is known.

        A minority of pieces of which nothing is known is left out.
        """
        with self._lock:
            now, by_lanes, unknown = self.now(), dict[int, list[float]](), 0
            seen = self._with_running(now)
            known = [(r.piece, self._left_of(r, seen, now)) for r in self._running.values()]
            known += [(piece, self._total(piece, seen)) for piece in self.pieces.values()]
        for piece, seconds in known:
            if seconds is None:
                unknown += 1
            else:
                by_lanes.setdefault(piece.lanes, []).append(seconds)
        if 2 * unknown > len(known):
            return None
        return sum(max(sum(each) / lanes, *each) for lanes, each in by_lanes.items())

    def _with_running(self, now: float) -> dict[str, list[float]]:
        """Return what was learnt, also from running pieces that are late or show their share."""
        seen = {kind: list(logs) for kind, logs in self._logs.items()}
        for running in self._running.values():
            enough = running.share >= ENOUGH_SHARE
            by_share = running.total_by_share() if enough else None
            elapsed = now - running.began
            expected = self._total(running.piece, self._logs)
            late = expected is not None and elapsed > expected
            if by_share is not None or late:
                floor = running.piece.floor_seconds
                total = max(by_share or 0.0, floor, elapsed if late else 0.0)
                for kind, log in _observations(running.piece, total):
                    seen.setdefault(kind, []).append(log)
        return seen

    def _left_of(
        self, running: _Running, seen: Mapping[str, list[float]], now: float
    ) -> float | None:
        total, by_share = self._total(running.piece, seen), running.total_by_share()
        if by_share is not None:
            floor = running.piece.floor_seconds
            by_share = max(by_share, floor if total is None else min(floor, total))
            weight = math.sqrt(running.share)
            total = by_share if total is None else total ** (1 - weight) * by_share**weight
        if total is None:
            return None
        since = max(running.began, running.share_at)
        return max(total - (now - running.began), OVERRUN * (now - since))

    def _total(self, piece: Piece, seen: Mapping[str, list[float]]) -> float | None:
        """Return the time of a whole piece, by its prediction or by others of its kind."""
        expected = piece.expected_seconds()
        if expected is None:
            took = self._took.get(piece.kind, [])[-RECENT:]
            return sum(took) / len(took) if took else None
        overall = _mean(seen.get("", []), 0.0) if piece.shows_speed() else 0.0
        return expected * math.exp(_mean(seen.get(piece.kind, []), overall))


def _observations(piece: Piece, took: float) -> list[tuple[str, float]]:
    """Return what the time of a piece says about its kind, and about all kinds (``""``)."""
    expected = piece.expected_seconds()
    if expected is None or expected < SMALL_SECONDS or took <= 0:
        return []
    log = math.log(took / expected)
    return [(piece.kind, log), *([("", log)] if piece.shows_speed() else [])]


def _mean(logs: list[float], prior: float) -> float:
    """Return the mean of the latest logarithms, drawn to what is known without them."""
    recent = logs[-RECENT:]
    return (sum(recent) + PRIOR_WEIGHT * prior) / (len(recent) + PRIOR_WEIGHT)
