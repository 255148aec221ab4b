"""Join the generations of a member of a round group into one result."""

from collections.abc import Sequence

from bsrbench.harness.meters.machine_load import Disturbance
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult

Watched = Sequence[tuple[Disturbance, int]]  # a disturbance and its number of rounds


def joined_generations(
    results: Sequence[PassResult], watched: Watched, rounds: int, stopped_by: str
) -> PassResult:
    """Return all generations of one trial as one result: samples in order, or the first failure.

    Args:
        results: the result of each generation; there is at least one.
        watched: the disturbances of the group, each with the number of rounds it was watched.
        rounds: number of rounds of the group.
        stopped_by: why the group was not timed for longer.
    """
    for result in results:
        if result.status != Status.COMPLETED:
            return result
    readings = [result.readings() for result in results]
    timed = dict.fromkeys(name for reading in readings for name in reading.measurements)
    # The first process of a run includes the start of the fork server; the last one does not.
    first, last = results[0], results[-1]
    return PassResult(
        start_seconds=last.start_seconds,
        reading=PassReadings(
            {name: [s for reading in readings for s in _samples(reading, name)] for name in timed},
            {name: why for name, why in readings[0].missing.items() if name not in timed},
            (*_disturbances(watched, rounds), *_slowdowns(readings)),
            Sidecar(clock=_clock(readings, list(timed), watched, rounds, stopped_by)),
        ),
        device=first.device,
        method=first.method,
        set_by_method=first.set_by_method,
        began_at=first.began_at,
        seconds=sum(result.seconds or 0.0 for result in results),
    )


def _samples(reading: PassReadings, metric: str) -> Sequence[int | float]:
    """Return the samples of a metric in one generation; a clock pass measures only samples."""
    value = reading.measurements.get(metric)
    return value if isinstance(value, Sequence) else ()


def _disturbances(watched: Watched, rounds: int) -> tuple[Note, ...]:
    """Return one note on all disturbed rounds, with the text of the first disturbance."""
    disturbed = [(texts, count) for seen, count in watched if (texts := seen.notes())]
    if not disturbed:
        return ()
    count = sum(count for _, count in disturbed)
    text = f"{count} of {rounds} rounds were disturbed; {disturbed[0][0][0]}"
    return (Note(NoteKind.TIMING, text),)


def _slowdowns(readings: Sequence[PassReadings]) -> tuple[Note, ...]:
    """Return one note on all processes that have noted a slow device, with the first text."""
    noted = [reading.notes for reading in readings if reading.notes]
    if not noted:
        return ()
    text = f"{len(noted)} of {len(readings)} generations were disturbed; {noted[0][0].text}"
    return (Note(NoteKind.TIMING, text),)


def _clock(
    readings: Sequence[PassReadings],
    metrics: Sequence[str],
    watched: Watched,
    rounds: int,
    stopped_by: str,
) -> ClockDetail:
    """Return the conditions of all generations of a member."""
    seen = [reading.detail.clock or ClockDetail() for reading in readings]
    disturbances = [disturbance for disturbance, _ in watched]
    throttled = (each.throttled for each in disturbances)
    steps = [each.steps_per_visit for each in seen if each.steps_per_visit is not None]
    return ClockDetail(
        warmup_steps=tuple(steps for each in seen for steps in each.warmup_steps),
        outside_share=tuple(each.outside_share for each in disturbances),
        stolen_share=tuple(each.stolen_share for each in disturbances),
        throttled=tuple(None if texts is None else tuple(texts) for texts in throttled),
        governor=tuple(each.governor for each in disturbances),
        cores=tuple(cores for each in seen for cores in each.cores),
        rounds=rounds,
        stopped_by=stopped_by,
        generations={
            metric: tuple(
                number for number, each in enumerate(readings) for _ in _samples(each, metric)
            )
            for metric in metrics
        },
        steps_per_visit=min(steps, default=None),
        scheduling=tuple(how for each in seen for how in each.scheduling),
    )
