"""The pytest plugin: the fixture ``bsrbench``, its options, its gate and its table.

pytest loads it in every project of an environment it is installed in. So it imports nothing but
pytest until a test asks for the fixture.
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
    "the fixture bsrbench times steps by pytest-benchmark, which is not there: install "
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
        help="Exit with status 1 if this holds of any test that uses the fixture, as in "
        "'ratio(peak_counted_bytes) > 1.02' or 'value(step_flop) > 1e12'. Can be given again.",
    )
    group.addoption(
        BASELINE,
        metavar="METHOD",
        help="What methods are compared with where a test names no baseline: a row's label, as "
        "'full' or 'full (micro-batch 1)'.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the gate, and offer the fixture in the form that can work here."""
    gate = _conditions(config.getoption(FAIL_IF))
    has_benchmark = config.getoption("--benchmark-disable", default=None) is not None
    found = Session(config.getoption(BASELINE), gate) if has_benchmark else Refusal()
    config.pluginmanager.register(found, "bsrbench-session")


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
    """Offers the fixture where pytest-benchmark is missing, and says so when it is used."""

    @pytest.fixture
    def bsrbench(self) -> None:
        """Measure a fine-tuning method; needs pytest-benchmark."""
        pytest.fail(NO_BENCHMARK, pytrace=False)


class Session:
    """What the tests of a run share: counters, gate, and the rows of the table.

    Args:
        baseline: for tests that name none.
        gate: the conditions under which the run fails.
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
            # Properties are the part of a report that pytest-xdist hands to the main process.
            request.node.user_properties.append((PROPERTY, row.to_json()))
        elif bench.called:
            benchmark.skipped = True  # else it warns, beside the reason, that nothing was timed

    def _bench(self, benchmark: Any) -> "Bench":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what libraries say on import is not about the test
            from bsrbench import methods
            from bsrbench.harness.launch.local_launcher import LocalLauncher
            from bsrbench.harness.pytest_plugin.bench import Bench
            from bsrbench.harness.pytest_plugin.counters import Counters

        if self._counters is None:
            self._counters = Counters(LocalLauncher(methods.load))
        return Bench(benchmark, self._counters, self._baseline)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Mark a test that uses the fixture, whether or not it comes to that."""
        if "bsrbench" in getattr(item, "fixturenames", ()):
            item.user_properties.append((ASKED, ""))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the row of a test, which may have run in another process, or that it has none."""
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
        """Fail a run whose tests pass if its gate does not."""
        if session.exitstatus == pytest.ExitCode.OK and self._failures():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Print the table, what must be known about it, and why the gate failed."""
        for test in self._unmeasured if self._gate else ():
            said = f"{FAIL_IF} did not judge {test}: it measured nothing"
            terminalreporter.write_line(said, yellow=True)
        if not self._rows:
            if self._gate:
                said = f"{FAIL_IF} judged nothing: no test measured a method by bsrbench"
                terminalreporter.write_line(said, yellow=True)
            return
        from bsrbench.harness.pytest_plugin import summary

        terminalreporter.section("bsrbench: peak memory, FLOPs and time of a training step")
        for line in summary.table(self._rows):
            terminalreporter.write_line(line)
        for note in summary.notes(self._rows):
            terminalreporter.write_line(f"note: {note}")
        for failure in self._failures():
            terminalreporter.write_line(f"FAILED {FAIL_IF}: {failure}", red=True)
