"""The pytest plugin: the fixture ``bsrbench``, its options, its gate and its table.

pytest loads every plugin that is installed, in every project. So this module imports only pytest
until a test uses the fixture.
"""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from bsrbench.harness.pytest_plugin.summary_row import SummaryRow

if TYPE_CHECKING:
    from bsrbench.harness.pytest_plugin.bench import Bench
    from bsrbench.harness.pytest_plugin.counters import Counters
    from bsrbench.reports.compare.gate import Condition

FAIL_IF, BASELINE = "--bsrbench-fail-if", "--bsrbench-baseline"
PROPERTY, ASKED = "bsrbench", "bsrbench-asked"
NO_BENCHMARK = (
    "the fixture bsrbench needs pytest-benchmark, which is not available: install "
    "pytest-benchmark, or leave out -p no:benchmark"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("bsrbench", "fine-tuning methods, measured by the fixture bsrbench")
    group.addoption(
        FAIL_IF,
        action="append",
        default=[],
        metavar="EXPR",
        help="Exit with status 1 if this is true for any test that uses the fixture, for example "
        "'ratio(peak_counted_bytes) > 1.02' or 'value(step_flop) > 1e12'. Can be repeated.",
    )
    group.addoption(
        BASELINE,
        metavar="METHOD",
        help="Baseline for tests that name none: a row label, for example 'full' or "
        "'full (micro-batch 1)'.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the gate, and register the fixture, or a fixture that fails without pytest-benchmark."""
    gate = _conditions(config.getoption(FAIL_IF))
    has_benchmark = config.getoption("--benchmark-disable", default=None) is not None
    plugin = Session(config.getoption(BASELINE), gate) if has_benchmark else Refusal()
    config.pluginmanager.register(plugin, "bsrbench-session")


def _conditions(texts: list[str]) -> "list[Condition]":
    if not texts:
        return []
    from bsrbench.harness.errors import BadInput
    from bsrbench.reports.compare import gate

    try:
        return [gate.parse(text) for text in texts]
    except BadInput as error:
        raise pytest.UsageError(f"{FAIL_IF}: {error}") from error


class Refusal:
    """Provides a fixture that fails with a message, if pytest-benchmark is missing."""

    @pytest.fixture
    def bsrbench(self) -> None:
        """Measure a fine-tuning method; needs pytest-benchmark."""
        pytest.fail(NO_BENCHMARK, pytrace=False)


class Session:
    """The state that the tests of a session share: counters, gate, and rows of the table.

    Args:
        baseline: the baseline for tests that name none.
        gate: the conditions under which the session fails.
    """

    def __init__(self, baseline: str | None, gate: "list[Condition]") -> None:
        self._baseline, self._gate = baseline, gate
        self._counters: Counters | None = None
        self._rows: list[SummaryRow] = []
        self._failed: set[str] = set()
        self._unmeasured: list[str] = []

    @pytest.fixture
    def bsrbench(self, request: pytest.FixtureRequest, benchmark: Any) -> "Iterator[Bench]":
        """Measure a fine-tuning method: peak memory and FLOPs of a step, and its time.

        bsrbench("mine", model="deit_small_patch16_224", batch=8, baseline="bsr")
        """
        bench = self._bench(benchmark)
        yield bench
        if bench.result is not None:
            from bsrbench.harness.pytest_plugin import summary, test_conditions

            failures = test_conditions.failures(self._gate, bench.result)
            row = summary.row_of(request.node.nodeid, bench.result, failures)
            # pytest-xdist sends the properties of a report to the main process.
            request.node.user_properties.append((PROPERTY, row.to_json()))
        elif bench.called:
            benchmark.skipped = True  # otherwise it warns that nothing was timed

    def _bench(self, benchmark: Any) -> "Bench":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ignore the warnings of imported libraries
            from bsrbench import methods
            from bsrbench.harness.launch.local_launcher import LocalLauncher
            from bsrbench.harness.pytest_plugin.bench import Bench
            from bsrbench.harness.pytest_plugin.counters import Counters

        if self._counters is None:
            self._counters = Counters(LocalLauncher(methods.load))
        return Bench(benchmark, self._counters, self._baseline)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Mark a test that uses the fixture, even if it fails before it measures."""
        if "bsrbench" in getattr(item, "fixturenames", ()):
            item.user_properties.append((ASKED, ""))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Store the row of a test, or note that it has none."""
        if report.failed:
            self._failed.add(report.nodeid)
        if report.when != "teardown":
            return
        properties = dict(report.user_properties)
        if PROPERTY in properties:
            self._rows.append(SummaryRow.from_json(str(properties[PROPERTY])))
        elif ASKED in properties and report.nodeid not in self._failed:
            self._unmeasured.append(report.nodeid)

    def _failures(self) -> list[str]:
        return [f"{row.test}: {failure}" for row in self._rows for failure in row.failures]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the session if all tests pass but a condition of the gate is true."""
        if session.exitstatus == pytest.ExitCode.OK and self._failures():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Print the table, its notes, and why the gate failed."""
        for test in self._unmeasured if self._gate else ():
            warning = f"{FAIL_IF} did not judge {test}: it measured nothing"
            terminalreporter.write_line(warning, yellow=True)
        if not self._rows:
            if self._gate:
                warning = f"{FAIL_IF} judged nothing: no test measured a method with bsrbench"
                terminalreporter.write_line(warning, yellow=True)
            return
        from bsrbench.harness.pytest_plugin import summary

        terminalreporter.section("bsrbench: peak memory, FLOPs and time of a training step")
        for line in summary.table(self._rows):
            terminalreporter.write_line(line)
        for note in summary.notes(self._rows):
            terminalreporter.write_line(f"note: {note}")
        for failure in self._failures():
            terminalreporter.write_line(f"FAILED {FAIL_IF}: {failure}", red=True)
