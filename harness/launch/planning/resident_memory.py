"""Split a round group into parts whose trials fit into memory together."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bsrbench.harness.launch.planning.companions import ComparedWith
from bsrbench.harness.launch.planning.run_plan import Group, PlannedTrial

GIB = 2**30
# What a process holds beside its tensors: on a CPU its own pages of torch (0.2 GiB measured), on a
# GPU its context (0.3 to 0.6 GiB, by driver and GPU).
BESIDE_BYTES = {"cpu": 256 << 20}
BESIDE_ON_GPU_BYTES = 640 << 20
MOST_UNPREDICTED = 4  # residents at once whose memory is not known


@dataclass(frozen=True)
class ResidentMemory:
    """What is known of the memory of trials that are alive together.

    Attributes:
        peaks: row id -> predicted peak of a step in bytes.
        free_bytes: free memory of the device; ``None`` if it is not known.
    """

    peaks: Mapping[str, int] = field(default_factory=dict)
    free_bytes: int | None = None

    def parts(self, group: Group, compared_with: Collection[str]) -> list[list[PlannedTrial]]:
        """Return the new trials of a group in parts that fit into memory together.

        Each part also gets the trials that every other one is compared with, so that it has its
        ratios. The first part contains those of them that are new.

        Args:
            group: the group.
            compared_with: keys of the trials that every other one is compared with.
        """
        shared = [trial for trial in group.members() if trial.key in compared_with]
        others = [trial for trial in group.new if trial.key not in compared_with]
        first = [trial for trial in group.new if trial.key in compared_with]
        # Stored trials are timed again in every part.
        always = [*shared, *(t for t in group.companions() if t.key not in compared_with)]
        parts: list[list[PlannedTrial]] = [[]]
        for trial in others:
            if parts[-1] and not self._fit([*always, *parts[-1], trial]):
                parts.append([])
            parts[-1].append(trial)
        return [[*first, *parts[0]], *parts[1:]]

    def planned(self, group: Group, compared_with: Collection[str]) -> list[Group]:
        """Return the parts of a group for the forecast, as if no part had been timed yet."""
        shared = [trial for trial in group.new if trial.key in compared_with]
        first, *others = self.parts(group, compared_with)
        parts = [first, *([*shared, *part] for part in others)]
        return [replace(group, new=tuple(part)) for part in parts]

    def why_split(self, group: Group) -> str:
        """Return why a group is split, in words."""
        rows = len(group.members())
        if self._needed(group.members()) is None or self.free_bytes is None:
            return (
                f"the memory of {rows} rows together could not be predicted, so at most "
                f"{MOST_UNPREDICTED} are alive at once"
            )
        needed = self._needed(group.members()) or 0
        return (
            f"{rows} rows together need about {needed / GIB:.1f} GiB, and "
            f"{self.free_bytes / GIB:.1f} GiB are free"
        )

    def _fit(self, trials: Sequence[PlannedTrial]) -> bool:
        needed = self._needed(trials)
        if needed is None or self.free_bytes is None:
            return len(trials) <= MOST_UNPREDICTED
        return needed <= self.free_bytes

    def _needed(self, trials: Iterable[PlannedTrial]) -> int | None:
        """Return the bytes of trials together; ``None`` if the peak of any is not known."""
        total = 0
        for trial in trials:
            peak = self.peaks.get(trial.spec.row_id())
            if peak is None:
                return None
            device = trial.spec.workload.device.partition(":")[0]
            total += peak + BESIDE_BYTES.get(device, BESIDE_ON_GPU_BYTES)
        return total


def keys_compared_with(
    members: Sequence[PlannedTrial], compared_with: ComparedWith
) -> Collection[str]:
    """Return the keys of the trials with which every other trial of a group is compared."""
    specs = compared_with([member.spec for member in members])
    return {member.key for member in members if member.spec in specs}
