"""Very many trials of a method that does nothing, through the local launcher.

``python tests/microbench/bench_launcher.py FOLDER`` starts where it was stopped, keeps what it saw
of the run's own process in ``FOLDER/seen.jsonl``, and prints the figures of all its runs as
JSON. Ten thousand trials take a quarter of an hour of two quiet cores.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from bsrbench import methods
from bsrbench.harness.launch.local_launcher import LocalLauncher

ROOT = Path(__file__).resolve().parents[2]
LOOK_EVERY_SECONDS = 5.0
METHOD = '''
from dataclasses import dataclass
from bsrbench.harness.method import Kind, Method

@dataclass(frozen=True)
class Nothing(Method):
    """Leaves the model as it is."""
    source = "a benchmark"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        return model
'''
SUITE = """
description = "nothing, very often"
seeds = {seeds}
[workload]
model = "test_vit"
image_size = 32
data = "noise"
classes = 2
batch = 1
threads = 1
[training]
steps = 1
learning_rate = 1e-3
[[methods]]
method = {method}
"""


def write_suite(folder, trials):
    """Write the suite and its method, and return the words of the run."""
    method, suite = folder / "nothing.py", folder / "nothing.toml"
    method.write_text(METHOD)
    name = f"{method}:Nothing"
    suite.write_text(SUITE.format(seeds=list(range(trials)), method=json.dumps(name)))
    words = [sys.executable, "-m", "harness", "run", str(suite), "--trust", name]
    return [*words, "--results", str(folder / "results"), "--progress", "json"]


def state_of(pid):
    """Return resident bytes and open handles of a process."""
    said = Path(f"/proc/{pid}/status").read_text()
    resident = next(line.split()[1] for line in said.splitlines() if line.startswith("VmRSS"))
    return int(resident) * 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def listen(run, count):
    """Keep what the run says of itself."""
    for line in run.stderr:
        count.update(json.loads(line))


def watch(command, folder, seconds):
    """Run until all is done, or stop cleanly after so many seconds; keep what was seen."""
    count = {}
    with (
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as run,
        (folder / "seen.jsonl").open("a") as file,
    ):
        threading.Thread(target=listen, args=(run, count), daemon=True).start()
        began = time.monotonic()
        while run.poll() is None:
            if count.get("passes_done") and count["left"]:  # then it makes its report
                resident, handles = state_of(run.pid)
                seen = {"run": run.pid, "seconds": count["seconds"], "trials": count["completed"]}
                file.write(json.dumps(seen | {"resident_bytes": resident, "handles": handles}))
                file.write("\n")
                file.flush()
            if time.monotonic() - began > seconds:
                run.send_signal(signal.SIGINT)
                seconds = float("inf")
            time.sleep(LOOK_EVERY_SECONDS)


def nothing(*_):
    """Do no work at all."""
    return {}


def sleep(*_):
    """Work for ten seconds of nobody's time."""
    time.sleep(10)
    return {}


def overhead():
    """Return what a process costs beside its work, and what the parent does meanwhile."""
    launcher = LocalLauncher(methods.load)
    launcher._call(nothing)
    taken = []
    for _ in range(100):
        began = time.perf_counter()
        launcher._call(nothing)
        taken.append(time.perf_counter() - began)
    before = time.process_time()
    launcher._call(sleep)
    return {
        "process_seconds": statistics.median(taken),
        "process_seconds_most": max(taken),
        "parent_cpu_seconds_in_a_pass_of_10_seconds": time.process_time() - before,
    }


def timed(*words):
    """Return how long a command takes."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "harness", *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


def figures(folder):
    """Return what all runs into the folder came to."""
    seen = [json.loads(line) for line in (folder / "seen.jsonl").read_text().splitlines()]
    runs = {}
    for one in seen:
        runs.setdefault(one["run"], []).append(one)
    results = str(folder / "results")
    parts = [
        {
            "trials": run[-1]["trials"] - run[0]["trials"],
            "seconds": run[-1]["seconds"] - run[0]["seconds"],
            "resident_bytes": [one["resident_bytes"] for one in run[:: max(1, len(run) // 12)]],
            "handles": sorted({one["handles"] for one in run}),
        }
        for run in runs.values()
    ]
    return {
        "records": len(list((folder / "results" / "records").iterdir())),
        "trials_a_second": sum(p["trials"] for p in parts) / sum(p["seconds"] for p in parts),
        "runs": parts,
        "status_seconds": timed("status", results),
        "check_seconds": timed("results", "check", results),
    }


def main():
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop cleanly")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    command = write_suite(asked.folder.resolve(), asked.trials)
    found = overhead()
    watch([*command, "--jobs", str(asked.jobs)], asked.folder, asked.seconds)
    told = found | {"jobs": asked.jobs} | figures(asked.folder)
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
