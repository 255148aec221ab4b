"""The table of the micro-benchmarks, beside pytest-benchmark's own."""

import statistics

import pytest
import torch

from harness.environment import describe_run

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
    machine_info.update(describe_run())


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    infos = [bench.extra_info for bench in session.benchmarks] if session else []
    rows = [info for info in infos if "time_goal" in info]  # a test that failed has none
    if not rows:
        return
    terminalreporter.section("relative to full fine-tuning, step by step in turns")
    lines = table(rows)
    for line in lines:
        terminalreporter.write_line(line)
    folder = config.rootpath / "results" / "local" / "microbench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text("\n".join([*HEADING, *lines, ""]), encoding="utf-8")


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
