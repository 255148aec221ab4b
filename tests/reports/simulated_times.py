"""Simulated times of a round group, in arrays: luck of processes and of steps, drift, a neighbour.

A neighbour is another program on the machine that runs for a while and then pauses. Spikes are
what a busy host does to single steps: each step takes longer by a share of its own.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from bsrbench.harness.records.ratio_interval import QUICKEST_SHARE, WINDOW_SECONDS

LUCK, SCATTER = 0.03, 0.02  # deviations of the logarithms: of processes, and of their steps
SLOWDOWN = 0.8  # of a step beside the neighbour: 1.8 times as long
DRIFT = 0.3  # the last visit takes 1.3 times as long as the first
SPIKES = 0.15  # mean of the logarithm by which a step is longer, exponentially distributed
LONG, SHORT = 2.0, 0.1  # seconds of an undisturbed step: one, or ten, in a window of rounds


@dataclass(frozen=True)
class Machine:
    """What is the same in all runs.

    Attributes:
        drift: share by which the last visit is slower than the first.
        neighbour: mean number of visits for which the neighbour runs, and pauses; 0: none.
        spikes: mean of the logarithm by which a single visit is longer.
        seconds: time of an undisturbed step.
    """

    drift: float = 0.0
    neighbour: float = 0.0
    spikes: float = 0.0
    seconds: float = LONG


def logarithms(random, machine, runs, rows, generations, rounds):
    """Return the logarithms of the times of identical rows, [run, generation, round, row].

    The rows are visited in an order drawn anew in each round.
    """
    shape = (runs, generations, rounds, rows)
    luck = random.normal(0, LUCK, (runs, generations, 1, rows))
    logs = np.log(machine.seconds) + luck + random.normal(0, SCATTER, shape)
    if machine.spikes:
        logs += random.exponential(machine.spikes, shape)
    places = np.argsort(random.random(shape), axis=-1)
    first = rows * np.arange(generations * rounds).reshape(generations, rounds, 1)
    visits = (first + places).reshape(runs, -1)  # when each time was taken
    slower = np.log1p(machine.drift * visits / visits.shape[1])
    if machine.neighbour:
        busy = _busy(random, runs, visits.shape[1], 1 / machine.neighbour)
        slower += np.log1p(SLOWDOWN) * np.take_along_axis(busy, visits, axis=1)
    return logs + slower.reshape(shape)


def _busy(random, runs, visits, change):
    """Return whether the neighbour runs, [run, visit]; it changes with a probability per visit."""
    changes = random.random((runs, visits)) < change
    changes[:, 0] = random.random(runs) < 1 / 2
    return np.cumsum(changes, axis=1) % 2 == 1


def intervals(ours, theirs, planned=None):
    """Return middle and half width of each run's interval, as ``time_ratio`` computes them.

    Args:
        ours: logarithms of the times of a row, [run, generation, round].
        theirs: those of another row.
        planned: the number of generations that was decided beforehand.
    """
    return intervals_of(observations(ours, theirs), planned)


def intervals_of(values, planned=None):
    """Return middle and half width of Student's t interval of observations, [run, generation]."""
    count = values.shape[1]
    error = values.std(axis=1, ddof=1) / np.sqrt(count)
    return values.mean(axis=1), stdtrit((planned or count) - 1, 0.975) * error


def observations(ours, theirs):
    """Return what each generation says of the ratio, [run, generation], as ``time_ratio`` does."""
    slower = np.maximum(np.median(np.exp(ours), axis=2), np.median(np.exp(theirs), axis=2))
    rounds = ours.shape[2]
    windows = np.maximum(1, np.floor(rounds / np.ceil(WINDOW_SECONDS / slower) + 0.5)).astype(int)
    values = np.empty(slower.shape)
    for count in np.unique(windows):
        chosen = windows == count
        values[chosen] = _in_windows(ours[chosen], theirs[chosen], count)
    return values


def _in_windows(ours, theirs, count):
    """Return the observations of generations [n, round] whose rounds make ``count`` windows."""
    ends = [ours.shape[1] * place // count for place in range(count + 1)]
    values = np.stack(
        [
            _quickest(ours[:, start:end]) - _quickest(theirs[:, start:end])
            for start, end in itertools.pairwise(ends)
        ]
    )
    return np.median(values, axis=0)


def _quickest(logs):
    """Return the mean over the quickest third of the visits, rounded up."""
    count = -(-logs.shape[1] // QUICKEST_SHARE)
    return np.sort(logs, axis=1)[:, :count].mean(axis=1)
