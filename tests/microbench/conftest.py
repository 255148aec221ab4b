"""The tables of the micro-benchmarks, beside pytest-benchmark's own."""

import statistics

import pytest
import torch

from bsrbench.harness.records.environment import describe_run

OF_RECORDS = (
    "# Commands over very many records",
    "",
    "Each run is its own process, with the files in the page cache. Median [least, most] of its",
    "time, and the peak of its resident memory.",
    "",
)
HEADING = (
    "# Micro-benchmarks",
    "",
    "DeiT-S at 224 px, batch 8, fp32, SGD with momentum, two threads. Each timed step follows a",
    "step of full fine-tuning, and the ratio is of the two. The peak is counted, above what is",
    "held before the step, weight gradients included. A value over the project's goal is marked.",
    "",
)


def pytest_benchmark_update_machine_info(config, machine_info):
    """Describe machine and versions as records do, without its name."""
    machine_info.clear()
    machine_info.update(describe_run().plain())


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    found = list(session.benchmarks) if session else []
    # A test that failed has no such facts.
    steps = [bench.extra_info for bench in found if "time_goal" in bench.extra_info]
    sizes = [bench for bench in found if "records" in bench.extra_info]
    for name, heading, lines in (
        ("microbench", HEADING, table(steps) if steps else []),
        ("scale", OF_RECORDS, table_of_records(sizes) if sizes else []),
    ):
        if lines:
            terminalreporter.section(heading[0])
            for line in lines:
                terminalreporter.write_line(line)
            folder = config.rootpath / "results" / "local" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "report.md").write_text("\n".join([*heading, *lines, ""]), encoding="utf-8")


def table_of_records(found):
    """Return the rows of a Markdown table: how commands grow with the number of records."""
    lines = [
        "| command | records | time | memory |",
        "| --- | ---: | ---: | ---: |",
    ]
    by_command = sorted(found, key=lambda b: (b.params["command"], b.extra_info["records"]))
    for bench in by_command:
        seconds, info = bench.stats, bench.extra_info
        lines.append(
            f"| {bench.params['command']} | {info['records']:,} | "
            f"{seconds.median:.1f} s [{seconds.min:.1f}, {seconds.max:.1f}] | "
            f"{info['peak_resident_bytes'] / 2**20:.0f} MiB |"
        )
    return lines


def table(rows):
    """Return the rows of a Markdown table; a value over its goal is marked."""
    lines = [
        "| method | kernels | step time, median [quartiles] | goal | peak above start | goal |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        low, middle, high = statistics.quantiles(row["step_seconds_ratios"], n=4)
        time = f"{middle:.3f} [{low:.3f}, {high:.3f}]" + _mark(middle, row["time_goal"])
        ratio, peak = row["peak_above_start_ratio"], ""
        if ratio is not None:
            peak = f"{ratio:.4f}" + _mark(ratio, row["peak_goal"])
        goals = [f"{row[goal]:g}" if row[goal] else "" for goal in ("time_goal", "peak_goal")]
        lines.append(
            f"| {row['method']} | {row['kernels']} | {time} | {goals[0]} | {peak} | {goals[1]} |"
        )
    return lines


def _mark(value, goal):
    return " (over)" if goal and value > goal else ""


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
