"""Put in inputs by the ten thousands: ``tox -e fuzz``, or a single one again by its seed."""

import argparse
import collections
import multiprocessing
import resource
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import click
import torch

from tests.fuzz.input_files import ROOT
from tests.fuzz.kinds import KINDS
from tests.fuzz.watch import Ending, Place, watch

MOST_SHOWN = 200  # letters of a failure
KEPT = ROOT / "build" / "fuzz"
AT_A_TIME = 250  # inputs a process reads before another takes its place
SILENT_SECONDS = 60  # after which a process hangs where no alarm is heard
SPARE_BYTES = 6 * 2**30  # of addresses beyond those that torch takes: the machine stays whole
BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class Work:
    """Some inputs of a kind, by their seeds."""

    kind: str
    seeds: range


def read_one(kind, seed, root):
    """Return what comes of the input of a seed."""
    place = Place(Path(root))
    content = kind.input(seed)
    with place.entered():
        return watch(lambda: kind.use(content, place), place)


def read_samples(kind):
    """Read what is valid, so that all is imported and made before there are processes."""
    with tempfile.TemporaryDirectory() as root:
        place = Place(Path(root))
        with place.entered():
            for content in kind.made():
                watch(lambda content=content: kind.use(content, place), place)


def perform(work, pipe):
    """Read inputs one after the other in a process of its own, and say what comes of each."""
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kind = BY_NAME[work.kind]
    with tempfile.TemporaryDirectory() as root:
        place = Place(Path(root))
        with place.entered():
            for seed in work.seeds:
                content = kind.input(seed)
                ending = watch(lambda content=content: kind.use(content, place), place)
                pipe.send((seed, ending))
                if ending.verdict == "failed" and "wrote outside" in ending.why:
                    break  # the tree is spoilt: the rest in another
    pipe.close()


class Pool:
    """A few processes that read inputs, and what is left for them.

    Args:
        works: all inputs.
        jobs: processes at a time.
    """

    def __init__(self, works, jobs):
        self._left = collections.deque(works)
        self._jobs = jobs
        self._running = {}
        self._context = multiprocessing.get_context("fork")

    def endings(self):
        """Yield kind, seed and ending of every input."""
        while self._left or self._running:
            while self._left and len(self._running) < self._jobs:
                self._start(self._left.popleft())
            ready = wait(list(self._running), timeout=SILENT_SECONDS)
            for pipe in ready or list(self._running):
                yield from self._heard(pipe, silent=not ready)

    def _start(self, work):
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=perform, args=(work, there), daemon=True)
        process.start()
        there.close()
        self._running[here] = (process, work, work.seeds.start)

    def _heard(self, pipe, *, silent):
        process, work, seed = self._running[pipe]
        try:
            answer = None if silent else pipe.recv()
        except EOFError:
            answer = None
        if answer is not None:
            self._running[pipe] = (process, work, answer[0] + 1)
            yield work.kind, *answer
            return
        if silent:
            process.kill()
        process.join()
        del self._running[pipe]
        pipe.close()
        if seed < work.seeds.stop:
            if silent or process.exitcode:
                why = "hangs where no alarm is heard" if silent else f"died: {process.exitcode}"
                yield work.kind, seed, Ending("failed", why)
                seed += 1
            self._left.append(Work(work.kind, range(seed, work.seeds.stop)))


def keep(kind, seed, ending):
    """Keep an input that failed, and say how to read it again."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{kind.name}-{seed}.{kind.ending}"
    path.write_bytes(kind.input(seed))
    last = ending.why.strip().splitlines()[-1][:MOST_SHOWN]
    click.echo(f"FAILED {kind.name} {seed}: {last}\n  input: {path}\n  {again(kind, seed)}")


def again(kind, seed):
    """Return the command that reads an input again."""
    return f"tox -e fuzz -- --kind {kind.name} --seed {seed}"


def works(kinds, count, first):
    """Return the inputs of all kinds by their shares, a little of each in turns."""
    shares = sum(kind.share for kind in kinds)
    found = []
    for kind in kinds:
        stop = first + -(-count * kind.share // shares)
        starts = range(first, stop, AT_A_TIME)
        found += [
            (number, Work(kind.name, range(start, min(start + AT_A_TIME, stop))))
            for number, start in enumerate(starts)
        ]
    return [work for _, work in sorted(found, key=lambda pair: pair[0])]


def table(endings):
    """Return the counts of each kind, as lines of Markdown."""
    lines = [
        "| kind | inputs | accepted | refused | failed | slowest s | most MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, of_kind in [
        *endings.items(),
        ("all", [e for some in endings.values() for e in some]),
    ]:
        count = collections.Counter(ending.verdict for ending in of_kind)
        numbers = [len(of_kind), count["accepted"], count["refused"], count["failed"]]
        slowest = max((ending.seconds for ending in of_kind), default=0)
        most = max((ending.mib for ending in of_kind), default=0)
        cells = [name, *(f"{number:,}" for number in numbers), f"{slowest:.2f}", f"{most:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments):
    """Read inputs and print what came of them.

    Returns:
        The exit code: 1 where an input failed.
    """
    parser = argparse.ArgumentParser(prog="tox -e fuzz --", description=__doc__)
    parser.add_argument("--kind", action="append", choices=list(BY_NAME))
    parser.add_argument("--seed", type=int, help="read this input alone, here")
    parser.add_argument("--count", type=int, default=100_000, help="inputs of all kinds")
    parser.add_argument("--first", type=int, default=0, help="the first seed of each kind")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    asked = parser.parse_args(arguments)
    kinds = [BY_NAME[name] for name in asked.kind or BY_NAME]
    if asked.seed is not None:
        endings = {}
        for kind in kinds:
            with tempfile.TemporaryDirectory() as root:
                endings |= {kind.name: [read_one(kind, asked.seed, root)]}
            said = f"{kind.name} {asked.seed}: {endings[kind.name][0].verdict}"
            click.echo(f"{said}\n{endings[kind.name][0].why}".strip())
        return int(any_failed(endings))
    for kind in kinds:
        read_samples(kind)
    endings = {kind.name: [] for kind in kinds}
    for name, seed, ending in Pool(works(kinds, asked.count, asked.first), asked.jobs).endings():
        endings[name].append(ending)
        if ending.verdict == "failed":
            keep(BY_NAME[name], seed, ending)
    click.echo("\n".join(table(endings)))
    return int(any_failed(endings))


def any_failed(endings):
    """Return whether an input of any kind failed."""
    return any(ending.verdict == "failed" for some in endings.values() for ending in some)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
