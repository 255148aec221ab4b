"""Time and memory of commands over very many records.

``python -m pytest tests/microbench/bench_records.py --benchmark-json=FILE``; ten minutes, 1.5 GB.
The records are two of ``results/flowers-small`` with other methods, batches, seeds and numbers: of
each hundred twenty are profiles, and eighty were trained with four seeds.
"""

import json
import os
import random
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bsrbench.harness.records.record_content import text_of
from bsrbench.harness.records.record_decoder import decode_record
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.record_key import read_key
from bsrbench.harness.records.trial_record import plain_record

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "results" / "flowers-small" / "records"
BATCHES, SEEDS = 20, 4  # a method has a row for each batch: a profile, and trainings
SIZES = (1_000, 10_000, 100_000)
COMMANDS = {
    "report": ("report", "{folder}"),
    "compare": ("compare", "method5", "bsr", "--results", "{folder}"),
    "check": ("results", "check", "{folder}"),
}
ROUNDS = 3
WITH_ITS_PEAK = """
import atexit, os, re
from pathlib import Path

def note():
    said = Path("/proc/self/status").read_text()
    Path(os.environ["PEAK_FILE"]).write_text(re.search(r"VmHWM:\\s+(\\d+)", said)[1])

atexit.register(note)
from bsrbench.harness.cli import main
main()
"""


def two_records():
    """Return a profile and a training of bsr, of the present schema."""
    found = [plain_record(read_record(path)) for path in sorted(SOURCE.glob("bsr-*.json"))]
    profile = next(data for data in found if data["spec"]["training"] is None)
    training = next(data for data in found if data["spec"]["profile"] is None)
    return profile, training


def write_one(folder, data, draw):
    """Write a record with numbers of its own under the key that belongs to it."""
    measured = dict(data["measurements"])
    for name in ("accuracy_top1", "peak_counted_bytes"):
        if measured[name] is not None:
            measured[name] *= draw.uniform(0.5, 1.0)
    if measured["peak_counted_bytes"] is not None:
        measured["peak_counted_bytes"] = int(measured["peak_counted_bytes"])
    data |= {"measurements": measured}
    record = decode_record(json.dumps(data).encode())
    own = {"method": record.spec.method, "trial": record.spec.trial_id()}
    key = str(replace(read_key(data["key"]), **own))
    (folder / f"{key}.json").write_text(text_of(data | {"key": key}))


def write_many(folder, count):
    """Write so many records."""
    folder.mkdir(parents=True)
    profile, training = two_records()
    draw = random.Random(0)  # noqa: S311 - the same numbers every time
    names = ["full", "bsr", *(f"method{n}" for n in range(count // (BATCHES * (SEEDS + 1)) - 2))]
    for name in names:
        for batch in range(BATCHES):
            for seed in range(-1, SEEDS):
                data = dict(profile if seed < 0 else training)
                workload = data["spec"]["workload"] | {"batch": 8 + batch}
                asked = {"method": name, "workload": workload, "seed": max(seed, 0)}
                data["spec"] = data["spec"] | asked
                write_one(folder, data, draw)


def run(command, folder):
    """Run a command in a process of its own and return its peak memory in bytes."""
    words = [word.format(folder=folder) for word in COMMANDS[command]]
    subprocess.run(
        [sys.executable, "-c", WITH_ITS_PEAK, *words],
        cwd=ROOT,
        env=os.environ | {"PEAK_FILE": str(folder / "peak")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return int((folder / "peak").read_text()) * 1024


@pytest.fixture(scope="module", params=SIZES)
def many(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    write_many(folder / "results" / "records", request.param)
    os.sync()  # else the first command shares the machine with what is still being written
    return request.param, folder


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, many, benchmark):
    count, folder = many
    peaks = []

    def once():
        peaks.append(run(command, folder / "results"))

    benchmark.pedantic(once, rounds=ROUNDS)
    benchmark.extra_info |= {
        "records": count,
        "peak_resident_bytes": statistics.median(peaks),
    }
