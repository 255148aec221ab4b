"""Check every meter on this machine against a known quantity."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from scipy.stats import binom
from torch.nn.functional import scaled_dot_product_attention

from bsrbench.harness.devices import open_device
from bsrbench.harness.errors import BadInput, Unreadable
from bsrbench.harness.launch.round_group import time_in_turns
from bsrbench.harness.launch.run_settings import Launcher
from bsrbench.harness.meters.allocator_events import allocator_rise
from bsrbench.harness.meters.live_bytes import LiveBytes
from bsrbench.harness.meters.phase_clock import seconds_each
from bsrbench.harness.profiler.process_pass import KNOWN_BYTES
from bsrbench.harness.records.pass_readings import joined_readings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.reports.compare.statistics import DOCTOR_CONFIDENCE, Ratio, time_ratio

MIB = 2**20
KERNEL_GRAIN_BYTES = MIB  # tolerance: pages, stacks and small blocks in the kernel's number
FINEST_SECONDS = 1e-6  # a clock coarser than this cannot time the smallest steps
FAST_FP16 = (7, 0)  # NVIDIA's compute capability of Volta, the first one with Tensor Cores
SHOWN = 3  # ratios that are printed
SURE = 0.99  # quantile of the number of pairs that differ by chance; more is a wrong reading
# A DeiT of 12 blocks at 32 px: 5 tokens. 2 FLOP for each of: 4 patches x 3 x 16 x 16 x 192, a
# block's 5 x 12 x 192^2 + 2 x 5^2 x 192 twelve times, and a head of 192 x 10; 4 images.
KNOWN = Workload(model="deit_tiny_patch16_224", image_size=32, classes=10, batch=4)
KNOWN_FORWARD_FLOP = (
    2 * 4 * (4 * 3 * 16**2 * 192 + 12 * (5 * 12 * 192**2 + 2 * 5**2 * 192) + 192 * 10)
)


@dataclass(frozen=True)
class MeterCheck:
    """The result of one check.

    Attributes:
        what: what was checked, in a few words.
        said: the result in words.
        good: whether the reading is right; ``None`` if there is nothing to judge.
    """

    what: str
    said: str
    good: bool | None = None


def examine(launcher: Launcher, pairs: int) -> Iterator[MeterCheck]:
    """Yield the result of each check when it is known; ``pairs`` identical pairs are timed."""
    yield from _known_bytes()
    yield from _known_trial(launcher)
    yield _resolution()
    yield from _devices(["cpu", "cuda", "mps", "xpu"])
    yield _attention()
    yield _identical(identical_pair(launcher) for _ in range(pairs))


def _known_bytes() -> Iterator[MeterCheck]:
    with LiveBytes() as live:
        _up_and_down()
    read = {"counted": live.peak, "allocated": allocator_rise(_up_and_down)}
    for meter, size in read.items():
        yield MeterCheck(
            f"{meter} memory", f"{size}, expected {12 * MIB} bytes", good=size == 12 * MIB
        )


def _up_and_down() -> None:
    """Hold 4 MiB, then 4 + 8: a peak of 12 MiB."""
    kept = torch.empty(4 * MIB, dtype=torch.uint8).fill_(1)
    torch.empty(8 * MIB, dtype=torch.uint8).fill_(1)
    del kept


def _known_trial(launcher: Launcher) -> Iterator[MeterCheck]:
    """Run the meters on a small model; compare them with known numbers and with each other."""
    spec = TrialSpec(method="full", workload=KNOWN, profile=Profile(rounds=0))
    names = ("memory", "process", "flops", "estimate", "known_process")
    results = {name: launcher.perform(name, spec) for name in names}
    for name, result in results.items():
        if result.status != Status.COMPLETED:
            yield MeterCheck(f"{name} pass", f"{result.status}: {result.reason}", good=False)
            return
    together = joined_readings(result.readings() for result in results.values())
    read, notes = together.measurements, [note.text for note in together.notes]
    macs = read.get("forward_macs")
    yield _equal("FLOPs of a forward pass", read.get("forward_flop"), KNOWN_FORWARD_FLOP)
    yield _equal("twice its MACs", 2 * macs if isinstance(macs, int) else 0, KNOWN_FORWARD_FLOP)
    yield _equal("estimated peak", read.get("peak_estimated_bytes"), read.get("peak_counted_bytes"))
    yield MeterCheck("meters against each other", "; ".join(notes) or "agree", good=not notes)
    yield _kernel(results["known_process"])


def _equal(what: str, got: object, expected: object) -> MeterCheck:
    return MeterCheck(what, f"{got}, expected {expected}", good=got == expected)


def _kernel(result: PassResult) -> MeterCheck:
    read = result.readings()
    size = read.measurements.get("peak_process_bytes")
    if not isinstance(size, int):
        reasons = {metric: absence.text for metric, absence in read.missing.items()}
        return MeterCheck("kernel's high-water mark", str(reasons))
    near = abs(size - KNOWN_BYTES) <= KERNEL_GRAIN_BYTES
    return MeterCheck(
        "kernel's high-water mark", f"{size}, expected {KNOWN_BYTES} bytes", good=near
    )


def _resolution() -> MeterCheck:
    finest = min(s for s in seconds_each(lambda: None, 1000, lambda: None) if s > 0)
    stated = time.get_clock_info("perf_counter").resolution
    measured = (
        f"{finest * 1e9:.0f} ns between two readings, stated resolution {stated * 1e9:.0f} ns"
    )
    return MeterCheck("clock", measured, good=finest < FINEST_SECONDS)


def _devices(names: Iterable[str]) -> Iterator[MeterCheck]:
    for name in names:
        try:
            device = open_device(name)
        except BadInput as error:
            yield MeterCheck(name, str(error))
            continue
        yield MeterCheck(name, ", ".join(f"{k} {v}" for k, v in device.describe().items()))
        try:
            device.energy_counter()
            yield MeterCheck(f"{name} energy", "has a counter")
        except Unreadable as reason:
            yield MeterCheck(f"{name} energy", f"not measured: {reason}")
        if device.torch_device.type == "cuda":
            yield _fp16(name, torch.cuda.get_device_capability(device.torch_device))


def _fp16(name: str, capability: tuple[int, int]) -> MeterCheck:
    """Say whether an NVIDIA GPU of a compute capability multiplies fp16 fast."""
    speed = "fast" if capability >= FAST_FP16 else "slow"
    since = ".".join(map(str, FAST_FP16))
    words = f"{speed}: compute capability {capability[0]}.{capability[1]}; fast from {since} on"
    return MeterCheck(f"{name} fp16", words)


def _attention() -> MeterCheck:
    """Name the kernel that torch's scaled_dot_product_attention runs on this CPU."""
    x = torch.randn(1, 3, 17, 64, requires_grad=True)
    with LiveBytes() as live:
        scaled_dot_product_attention(x, x, x)
    ran = [name for name in live.timeline.operator if "attention" in name]
    kernel = ran[0] if ran else "not fused: the matrix of attention scores is stored"
    return MeterCheck("cpu attention", kernel, good=bool(ran))


def identical_pair(launcher: Launcher) -> Ratio | None:
    """Time a trial against itself at the default settings and return the ratio."""
    spec = TrialSpec(method="full", workload=KNOWN, profile=Profile())
    group = [_Twin(spec, "first"), _Twin(spec, "second")]
    timed = time_in_turns(group, lambda twin: launcher.resident(twin.spec))
    first, second = (_by_generation(timed[twin.key]) for twin in group)
    medians = [
        median(a / b for a, b in zip(ours, theirs, strict=False))
        for ours, theirs in zip(first, second, strict=False)
    ]
    return time_ratio(medians, [1.0] * len(medians), 1, DOCTOR_CONFIDENCE)


def _by_generation(result: PassResult) -> list[list[float]]:
    """Return the seconds per step of each generation; empty if the trial failed."""
    readings = result.readings()
    samples, clock = readings.measurements.get("step_seconds"), readings.detail.clock
    if clock is None or not isinstance(samples, Sequence):
        return []
    generations: dict[int, list[float]] = {}
    for number, seconds in zip(clock.generations["step_seconds"], samples, strict=True):
        generations.setdefault(number, []).append(seconds)
    return list(generations.values())


@dataclass(frozen=True)
class _Twin:
    spec: TrialSpec
    key: str


def _identical(ratios: Iterable[Ratio | None]) -> MeterCheck:
    """Judge pairs of a trial with itself: about 1 pair in 100 seems to differ by chance."""
    timed = [ratio for ratio in ratios if ratio is not None]
    what = "identical pair"
    if not timed:
        return MeterCheck(what, "could not be timed", good=False)
    differ = sum(ratio.differs() for ratio in timed)
    shown = [f"{r.centre:.3f} [{r.low or 0:.3f}, {r.high or 0:.3f}]" for r in timed[:SHOWN]]
    count = f"{differ} of {len(timed)} seem to differ: {', '.join(shown)}"
    good = differ <= int(binom.ppf(SURE, len(timed), 1 - DOCTOR_CONFIDENCE))
    return MeterCheck(what, count + (", ..." if len(timed) > SHOWN else ""), good=good)
