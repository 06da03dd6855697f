"""The pytest plugin: a fixture `kvbench` that runs an experiment in a test, and a gate against a saved baseline.

    def test_decoding_speed(kvbench):
        record = kvbench("model=embedded", "workload.new_tokens=32")

Every pytest run where kvbench is installed loads this file, so it imports the rest of kvbench when a test asks for it.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pytest

if TYPE_CHECKING:
    from kvbench.measured_run import MeasuredRun
    from kvbench.records.store import StoredRun
    from kvbench.testing import RegressionSession

FIXTURE = "kvbench"
RELEVANCE = 0.05  # `options.RELEVANT_ACROSS_RUNS`, said again: nothing of kvbench is loaded before a test asks

_GATE: pytest.StashKey[RegressionSession] = pytest.StashKey()


class Experiments:
    """What the fixture gives: call it with overrides as on the command line."""

    def __init__(self, request: pytest.FixtureRequest, results_dir: Path) -> None:
        self._request = request
        self._results_dir = results_dir
        self._calls = 0

    @overload
    def __call__(self, *overrides: str) -> MeasuredRun: ...

    @overload
    def __call__(self, *overrides: str, processes: int) -> tuple[MeasuredRun, ...]: ...

    def __call__(self, *overrides: str, processes: int | None = None) -> MeasuredRun | tuple[MeasuredRun, ...]:
        """Measure; the test fails when a run is not VALID, or, given a baseline, not known to be no slower.

        Returns the record, as `kvbench.measure` does; with `processes`, which overrides --kvbench-processes, the
        records of so many processes.
        """
        config = self._request.config
        if hasattr(config, "workerinput"):
            pytest.fail("kvbench: tests that run beside others disturb each other's times; run these without xdist")
        from kvbench.errors import KvbenchError
        from kvbench.measured_run import InFolder, MeasuredRun
        from kvbench.testing import NotMeasured, Regressed, run_experiment
        from kvbench.text import printable

        count = config.getoption("kvbench_processes") if processes is None else processes
        self._calls += 1
        failure = None
        try:
            runs = run_experiment(overrides, count, self._results_dir)
            self._store(runs)
            if (gate := config.stash.get(_GATE, None)) is not None:
                gate.judge(runs)
        except (NotMeasured, Regressed, KvbenchError) as error:
            failure = "\n".join(f"kvbench: {printable(line)}" for line in str(error).splitlines())
        # Out here: pytest would show what led to an error that is raised while another is handled.
        if failure is not None:
            pytest.fail(failure, pytrace=False)
        records = tuple(MeasuredRun.of(run.record, InFolder(run.folder)) for run in runs)
        return records[0] if processes is None else records

    def _store(self, runs: tuple[StoredRun, ...]) -> None:
        """Into pytest-benchmark's table and files, where it is there and not disabled."""
        session = self._request.config.pluginmanager.get_plugin("pytest-benchmark")
        if session is None or session.disabled:
            return
        from kvbench.testing import benchmarks

        node: Any = self._request.node
        call = getattr(node, "callspec", None)
        marker = node.get_closest_marker("benchmark")
        again = f" #{self._calls}" if self._calls > 1 else ""
        session.benchmarks += benchmarks(
            runs,
            name=node.name + again,
            fullname=node.nodeid + again,
            group=marker.kwargs.get("group") if marker else None,
            param=call.id if call else None,
            params=call.params if call else None,
        )


@pytest.fixture
def kvbench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Experiments:
    """Runs a kvbench experiment: `kvbench("model=embedded", "workload.new_tokens=32")` returns its record."""
    chosen: Path | None = request.config.getoption("kvbench_results")
    return Experiments(request, chosen or tmp_path_factory.mktemp("kvbench"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    group = parser.getgroup("kvbench", "decoding speed (kvbench)")
    group.addoption(
        "--kvbench-results",
        type=Path,
        metavar="DIR",
        help="Where run folders go, so that they can be a baseline later. Default: below the tests' temporary folder.",
    )
    group.addoption(
        "--kvbench-processes",
        type=_count,
        default=1,
        metavar="N",
        help="Fresh processes per experiment; a verdict needs 5 a side. Default: %(default)s",
    )
    group.addoption(
        "--kvbench-baseline",
        type=Path,
        metavar="PATH",
        help="Fail tests whose runs are slower than those below PATH, or cannot be told not to be.",
    )
    group.addoption(
        "--kvbench-relevance",
        type=_share,
        default=RELEVANCE,
        metavar="SHARE",
        help="Relative change that counts as none, either way. Default: %(default)s",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text}: must be a whole number of 1 or more")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = float("nan")
    if not 0 < share < 1:
        raise ArgumentTypeError(f"{text}: must be between 0 and 1, such as 0.05 for 5 %")
    return share


def pytest_configure(config: pytest.Config) -> None:
    """Read the baseline before anything is measured. Raises `pytest.UsageError` when it cannot be used."""
    path: Path | None = config.getoption("kvbench_baseline")
    results: Path | None = config.getoption("kvbench_results")
    if path is None:
        return
    if results is not None and (_inside(results, path) or _inside(path, results)):
        raise pytest.UsageError(f"--kvbench-results {results}: shares a folder with --kvbench-baseline {path}")
    from kvbench.errors import RecordError
    from kvbench.testing import Baseline, RegressionSession
    from kvbench.text import printable

    try:
        baseline = Baseline.read(path, config.getoption("kvbench_relevance"))
    except RecordError as error:
        raise pytest.UsageError(f"--kvbench-baseline {printable(str(error))}") from error
    config.stash[_GATE] = RegressionSession(baseline)


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, object, object]:
    """Have --benchmark-skip and --benchmark-only count our tests as benchmarks.

    pytest-benchmark knows its tests by the name of its fixture, so ours bear it while it looks.
    """
    lent = []
    for item in items:
        names = getattr(item, "fixturenames", [])  # tests of one function share the list
        if FIXTURE in names and "benchmark" not in names:
            names.append("benchmark")
            lent.append(names)
    try:
        return (yield)
    finally:
        for names in lent:
            names.remove("benchmark")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the tests that will measure: the gate allows for their number."""
    gate = session.config.stash.get(_GATE, None)
    if gate is not None:
        gate.tests = sum(FIXTURE in getattr(item, "fixturenames", ()) for item in session.items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The gate's table."""
    gate = config.stash.get(_GATE, None)
    if gate is not None and gate.rows:
        from kvbench.text import printable

        terminalreporter.section(f"kvbench against {printable(str(gate.baseline.path))}")
        for line in gate.table().splitlines():
            terminalreporter.write_line(line)
