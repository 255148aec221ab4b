"""Describe the forecast of a run, as printed before it begins."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from bsrbench.harness.launch.planning.companions import ComparedWith
from bsrbench.harness.launch.planning.forecast import Forecast
from bsrbench.harness.launch.planning.preflight import Preflight
from bsrbench.harness.launch.planning.run_plan import Plan
from bsrbench.harness.launch.run_tally import duration

MB, GB = 1e6, 1e9
GIB = 2**30


def forecast_lines(
    before: Preflight,
    plan: Plan,
    absent: Collection[str],
    folder: Path,
    compared_with: ComparedWith,
) -> list[str]:
    """Return lines about the time, the disk space and the memory of a run.

    Args:
        before: what is known before the run.
        plan: the trials.
        absent: devices that this machine lacks.
        folder: the results folder.
        compared_with: returns the trials that every other trial of a group is compared with.
    """
    labels = {trial.spec.row_id(): trial.spec.label() for trial in plan.trials}
    # Stored rows that are timed again have peaks, too.
    peaks = {labels[row]: peak for row, peak in before.peaks.items() if row in labels}
    lines = not_here(absent, peaks)
    if before.why_unknown:
        lines.append(f"  no forecast of the time: {before.why_unknown}")
    lines += [
        f"  does not fit: {plan.missing[key].spec.label()}, {result.reason}"
        for key, result in before.doomed.items()
    ]
    predicted = before.forecast(plan, compared_with)
    if predicted is not None and before.known is not None:
        lines += outlook(predicted, before.known.speed, folder, assumed=before.known.assumed)
    return lines


def not_here(absent: Collection[str], peaks: Mapping[str, int]) -> list[str]:
    """Return lines about a plan for devices that this machine lacks; empty if it lacks none.

    Args:
        absent: the devices.
        peaks: label -> predicted peak in bytes.
    """
    if not absent:
        return []
    lines = [f"  a plan only: this machine has no {', '.join(sorted(absent))}"]
    if peaks:
        label = max(peaks, key=lambda name: peaks[name])
        lines.append(
            f"  the largest predicted peak is {peaks[label] / GIB:.1f} GiB ({label}), without "
            "workspaces and the device's own code"
        )
    return lines


def outlook(predicted: Forecast, speed: float, folder: Path, *, assumed: bool = False) -> list[str]:
    """Return a forecast in words.

    Args:
        predicted: the forecast.
        speed: the speed in FLOP per second.
        folder: the results folder.
        assumed: the speed is that of another device, because the device is not here.
    """
    least, most = duration(predicted.least_seconds), duration(predicted.most_seconds)
    took = least if least == most else f"{least} to {most}"
    writes = f"writes about {predicted.written_bytes / MB:.1f} MB"
    if predicted.checkpoint_bytes:
        writes += f", and up to {predicted.checkpoint_bytes / MB:,.0f} MB during a training"
    free = shutil.disk_usage(folder).free
    at = f"{speed / GB:,.0f} GFLOP/s"
    source = f"an assumed {at}, which an H100 reached in fp32" if assumed else f"the measured {at}"
    lines = [f"  takes about {took} (predicted FLOPs at {source})"]
    lines.append(f"  {writes}; {free / GB:,.1f} GB are free")
    if predicted.unknown:
        lines.append(
            "  not included in the estimate, because they cannot be predicted: "
            f"{', '.join(predicted.unknown)}"
        )
    if free < predicted.written_bytes + predicted.checkpoint_bytes:
        lines.append(f"  the disk of {folder} is too full: free some space, or use --results")
    return lines
