"""Simulated times of a round group, in arrays: luck of processes and of steps, drift, a neighbour.

A neighbour is another program on the machine that runs for a while and then pauses.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LUCK, SCATTER = 0.03, 0.02  # deviations of the logarithms: of processes, and of their steps
SLOWDOWN = 0.8  # of a step beside the neighbour: 1.8 times as long
DRIFT = 0.3  # the last visit takes 1.3 times as long as the first


@dataclass(frozen=True)
class Machine:
    """What is the same in all runs.

    Attributes:
        drift: share by which the last visit is slower than the first.
        neighbour: mean number of visits for which the neighbour runs, and pauses; 0: none.
    """

    drift: float = 0.0
    neighbour: float = 0.0


def logarithms(random, machine, runs, rows, generations, rounds):
    """Return the logarithms of the times of identical rows, [run, generation, round, row].

    The rows are visited in an order drawn anew in each round.
    """
    shape = (runs, generations, rounds, rows)
    luck = random.normal(0, LUCK, (runs, generations, 1, rows))
    logs = luck + random.normal(0, SCATTER, shape)
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


def intervals(ratios, planned=None):
    """Return middle and half width of each run's interval, as ``time_ratio`` computes them.

    Args:
        ratios: logarithms of the ratios of two rows, [run, generation, round].
        planned: the number of generations that was decided beforehand.
    """
    values = np.median(ratios, axis=2)
    count = values.shape[1]
    error = values.std(axis=1, ddof=1) / np.sqrt(count)
    return values.mean(axis=1), stdtrit((planned or count) - 1, 0.975) * error
