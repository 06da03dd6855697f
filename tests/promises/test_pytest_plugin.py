"""The pytest plugin measures inside a test, fails what a gate must fail, and hands its rounds to pytest-benchmark."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

# pytester forgets what an inner session imported, and numpy cannot be imported twice: all of it is here before.
import kvbench.pytest_plugin
import kvbench.testing
from kvbench.options import RELEVANT_ACROSS_RUNS
from kvbench.records.samples import Prepared
from kvbench.records.store import RECORD, find_runs
from kvbench.running.supervisor import InlineRunner

ROOT = Path(__file__).parents[2]
# Where kvbench is installed with its entry point, the plugin is there already.
LOADED = () if entry_points(group="pytest11", name="kvbench") else ("-p", "kvbench.pytest_plugin")
# Virtual time: every rate is exact. A prompt of 5 tokens, 6 new ones, 1 ms a step.
SCRIPT = (
    *("model=scripted", "mode=cached", "workload.prompt_tokens=5", "workload.new_tokens=6", "stream.interval=0"),
    *("measure.warmup=0", "measure.step_lane=false"),
)
MEASURE = f"""
SCRIPT = {SCRIPT!r}
INLINE = (*SCRIPT, "launch=inline")
"""
Pytest = Callable[..., pytest.RunResult]
Baseline = Callable[..., None]


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Pytest:
    """Runs a test file with the plugin and these options, as if by itself: not beside what xdist runs around it."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)

    def run(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(MEASURE + source)
        # Of what else may be installed: hypothesis imports itself, for a second, at the end of every session.
        left_out = [f"-pno:{plugin}" for plugin in ("cacheprovider", "randomly", "hypothesispytest")]
        return pytester.runpytest_inprocess(*LOADED, *left_out, *options)

    return run


@pytest.fixture
def baseline(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> Baseline:
    """Measures a baseline into the folder `base`, a run for each step time, as if in processes of their own."""
    from kvbench.__main__ import main

    def measure(*steps: float) -> None:
        for pid, step in enumerate(steps, start=1):
            folder = pytester.path / "base" / str(pid)
            command = (*SCRIPT, "launch=inline", "report=false", f"results_dir={folder}")
            assert 0 == main([*command, f"model.cached_step_s={step}"])
            path = next(folder.rglob(RECORD))
            record = json.loads(path.read_text())
            record["environment"]["worker"]["pid"] = pid
            path.write_text(json.dumps(record))
        capsys.readouterr()

    return measure


@pytest.fixture
def processes_in_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of an experiment is this one under another number: the gate asks for many, and counts them."""
    pids = itertools.count(1000)

    class Renumbered(InlineRunner):
        def measure(self, plan: Any, log: Path, listen: Any) -> None:
            def listen_as_another(sample: Any) -> None:
                if isinstance(sample, Prepared):
                    worker = {**sample.environment["worker"], "pid": next(pids)}
                    sample = replace(sample, environment={**sample.environment, "worker": worker})
                listen(sample)

            super().measure(plan, log, listen_as_another)

    monkeypatch.setattr(kvbench.testing, "open_runner", lambda config: Renumbered())


class TestTheFixture:
    def test_returns_the_record_of_the_experiment(self, run_pytest: Pytest) -> None:
        result = run_pytest(
            """
def test_speed(kvbench):
    record = kvbench(*INLINE)
    assert record.valid
    assert round(record.arms[0].decode_tokens_per_s.value, 6) == 1000
"""
        )
        result.assert_outcomes(passed=1)

    def test_measures_in_so_many_processes_and_keeps_their_folders(
        self, run_pytest: Pytest, pytester: pytest.Pytester
    ) -> None:
        result = run_pytest(
            """
def test_speed(kvbench):
    records = kvbench(*SCRIPT, processes=2)
    pids = {record.environment["worker"]["pid"] for record in records}
    assert (2, 2) == (len(records), len(pids))
""",
            "--kvbench-results=kept",
        )
        result.assert_outcomes(passed=1)
        assert 2 == len(find_runs([pytester.path / "kept"]).runs)

    def test_fails_the_test_of_a_run_that_is_not_valid_with_its_reasons(self, run_pytest: Pytest) -> None:
        result = run_pytest(
            """
def test_too_few_blocks(kvbench):
    kvbench(*INLINE, "mode=both", "measure.blocks=2")

def test_breaks(kvbench):
    kvbench(*INLINE, "model.fail_at_step=2", "model.fail_with=oom")
"""
        )
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines(["*the run is INVALID:*", "*blocks: 2 blocks measured, a verdict needs 5*"])
        result.stdout.fnmatch_lines(["*the run is OOM:*"])

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ('"workload.new_token=3"', "workload.new_token: no such key; did you mean workload.new_tokens=3[?]"),
            ('"workload.newtokens=8"', "workload.newtokens: no such key; did you mean workload.new_tokens=8[?]"),
            ('*INLINE, "bucket=8"', "bucket=8: has no effect without mode=nocache"),
            ('"results_dir=x"', "results_dir: not a test's to say; instead there is --kvbench-results"),
            ("*INLINE, processes=2", "launch=inline: is one process and gives no 2"),
            ("*INLINE, processes=0", "processes=0: must be 1 or more"),
        ],
    )
    def test_fails_the_test_of_a_bad_key_in_one_line(self, run_pytest: Pytest, call: str, message: str) -> None:
        result = run_pytest(f"def test_speed(kvbench):\n    kvbench({call})\n")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"kvbench: {message}*"])
        result.stdout.no_fnmatch_line("*another exception*")
        result.stdout.no_fnmatch_line("*Traceback*")
        result.stdout.no_fnmatch_line("*append to your config*")

    def test_refuses_to_measure_beside_other_tests(self, run_pytest: Pytest, pytester: pytest.Pytester) -> None:
        pytester.makeconftest("def pytest_configure(config):\n    config.workerinput = {}\n")  # as xdist's workers do
        result = run_pytest("def test_speed(kvbench):\n    kvbench(*INLINE)\n")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*run these without xdist*"])


@pytest.mark.usefixtures("processes_in_name_only")
class TestTheGate:
    def test_tells_same_slower_and_faster_apart(self, run_pytest: Pytest, baseline: Baseline) -> None:
        baseline(*[0.001] * 5)
        result = run_pytest(
            """
import pytest

@pytest.mark.parametrize("step_s", [0.001, 0.0011, 0.0009])
def test_speed(kvbench, step_s):
    kvbench(*SCRIPT, f"model.cached_step_s={step_s}")
""",
            "--kvbench-baseline=base",
            "--kvbench-processes=5",
        )
        result.assert_outcomes(passed=2, failed=1)
        assert 1 == result.ret
        result.stdout.fnmatch_lines(
            [
                "kvbench: cached (dynamic): SLOWER 0.909× [[]0.909, 0.909] as fast as before against base",
                "*kvbench against base*",
                "| scripted | 5 | 6 | 1 | cached (dynamic) * | 5, 5 | ** SAME ** |".replace("** SAME **", "*SAME*"),
                "| scripted | 5 | 6 | 1 | cached (dynamic) * | 5, 5 | *SLOWER* |",
                "| scripted | 5 | 6 | 1 | cached (dynamic) * | 5, 5 | *FASTER* |",
                "SLOWER over 3 row(s) (1 FASTER, 1 SAME, 1 SLOWER).*",
            ]
        )

    def test_fails_what_is_ambiguous(self, run_pytest: Pytest, baseline: Baseline) -> None:
        baseline(0.0009, 0.00095, 0.001, 0.00105, 0.0011)
        result = run_pytest("def test_speed(kvbench):\n    kvbench(*SCRIPT, processes=5)\n", "--kvbench-baseline=base")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["kvbench: cached (dynamic): AMBIGUOUS*more processes would tell; ask for more*"])

    def test_at_another_relevance_passes_what_was_slower(self, run_pytest: Pytest, baseline: Baseline) -> None:
        baseline(*[0.001] * 5)
        slower = "def test_speed(kvbench):\n    kvbench(*SCRIPT, 'model.cached_step_s=0.0011', processes=5)\n"
        run_pytest(slower, "--kvbench-baseline=base", "--kvbench-relevance=0.12").assert_outcomes(passed=1)

    def test_fails_what_was_measured_in_too_few_processes(self, run_pytest: Pytest, baseline: Baseline) -> None:
        baseline(*[0.001] * 5)
        result = run_pytest("def test_speed(kvbench):\n    kvbench(*INLINE)\n", "--kvbench-baseline=base")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*5 and 1 processes, a verdict needs 5 a side; ask for more with --kvbench-proc*"])

    def test_fails_what_has_no_counterpart_and_tells_what_differs(self, run_pytest: Pytest, baseline: Baseline) -> None:
        baseline(0.001)
        result = run_pytest(
            "def test_speed(kvbench):\n    kvbench(*INLINE, 'workload.new_tokens=7')\n", "--kvbench-baseline=base"
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "kvbench: all arms: INVALID against base: BASE has no VALID run with this compare_key; the nearest "
                "differs in workload.new_tokens (7, there 6); measure the baseline again*",
                "Not measured in this session: 1 kind(s) of the baseline.",
            ]
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--kvbench-baseline=nowhere"], "--kvbench-baseline nowhere: no such file or folder"),
            (["--kvbench-baseline=."], "--kvbench-baseline .: no usable run"),
            (["--kvbench-baseline=base", "--kvbench-results=base/new"], "--kvbench-results base/new: shares a folder"),
            (["--kvbench-relevance=5"], "5: must be between 0 and 1"),
            (["--kvbench-processes=0"], "0: must be a whole number of 1 or more"),
        ],
    )
    def test_is_refused_with_the_option_named(self, run_pytest: Pytest, options: list[str], message: str) -> None:
        result = run_pytest("def test_nothing():\n    pass\n", *options)
        assert pytest.ExitCode.USAGE_ERROR == result.ret
        assert message in result.stderr.str()

    def test_is_refused_over_a_baseline_with_a_broken_record(
        self, run_pytest: Pytest, baseline: Baseline, pytester: pytest.Pytester
    ) -> None:
        baseline(0.001, 0.001)
        next((pytester.path / "base").rglob(RECORD)).write_text("{")
        result = run_pytest("def test_nothing():\n    pass\n", "--kvbench-baseline=base")
        assert pytest.ExitCode.USAGE_ERROR == result.ret
        assert "--kvbench-baseline base" in result.stderr.str()


BOTH = """
def test_speed(kvbench):
    kvbench(*INLINE, "mode=both", "measure.blocks=6")
"""


class TestPytestBenchmark:
    def test_gets_a_benchmark_per_arm_with_a_round_per_block(
        self, run_pytest: Pytest, pytester: pytest.Pytester
    ) -> None:
        result = run_pytest(BOTH, "--benchmark-json=out.json", "--kvbench-results=kept")
        result.assert_outcomes(passed=1)
        (run,) = find_runs([pytester.path / "kept"]).runs
        nocache, cached = json.loads((pytester.path / "out.json").read_text())["benchmarks"]
        assert ("test_speed nocache", "test_speed cached (dynamic)") == (nocache["name"], cached["name"])
        assert cached["fullname"].endswith(".py::test_speed cached (dynamic)")
        assert pytest.approx([0.001] * 6) == cached["stats"]["data"]
        assert (6, 1) == (cached["stats"]["rounds"], cached["stats"]["iterations"])
        assert run.record.run_id == cached["extra_info"]["run_id"]
        assert run.record.keys.compare_key == cached["extra_info"]["compare_key"]
        assert pytest.approx(1000) == cached["extra_info"]["decode_tokens_per_s"]
        result.stdout.fnmatch_lines(["*benchmark 'decode step': 2 tests*", "test_speed cached (dynamic)*"])

    def test_fails_on_its_own_comparison_of_saved_rounds(self, run_pytest: Pytest) -> None:
        source = "def test_speed(kvbench):\n    kvbench(*INLINE, 'model.cached_step_s={}')\n"
        run_pytest(source.format(0.001), "--benchmark-save=old").assert_outcomes(passed=1)
        result = run_pytest(source.format(0.0013), "--benchmark-compare=0001", "--benchmark-compare-fail=mean:25%")
        assert 0 != result.ret
        assert "Performance has regressed" in result.stdout.str() + result.stderr.str()

    @pytest.mark.parametrize(("option", "passed", "skipped"), [("--benchmark-only", 1, 1), ("--benchmark-skip", 1, 1)])
    def test_counts_the_test_as_a_benchmark(
        self, run_pytest: Pytest, option: str, passed: int, skipped: int, pytester: pytest.Pytester
    ) -> None:
        result = run_pytest(BOTH + "\ndef test_other():\n    pass\n", option, "--kvbench-results=kept")
        result.assert_outcomes(passed=passed, skipped=skipped)
        assert (option == "--benchmark-only") == (pytester.path / "kept").exists()

    @pytest.mark.parametrize("options", [["--benchmark-disable", "--benchmark-json=out.json"], ["-p", "no:benchmark"]])
    def test_is_not_needed(self, run_pytest: Pytest, pytester: pytest.Pytester, options: list[str]) -> None:
        run_pytest(BOTH, *options).assert_outcomes(passed=1)
        assert not (pytester.path / "out.json").exists()


class TestThePlugin:
    def test_is_an_entry_point_of_pytest(self) -> None:
        project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert {"kvbench": "kvbench.pytest_plugin"} == project["entry-points"]["pytest11"]

    def test_loads_nothing_of_kvbench_or_its_libraries_before_a_test_asks(self) -> None:
        program = "import sys; import pytest; old = set(sys.modules); import kvbench.pytest_plugin; "
        program += "print(*sorted(set(sys.modules) - old))"
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert {"kvbench", "kvbench.pytest_plugin"} == set(ended.stdout.split())
        assert RELEVANT_ACROSS_RUNS == kvbench.pytest_plugin.RELEVANCE  # said twice for that reason

    def test_leaves_other_tests_alone(self, run_pytest: Pytest, pytester: pytest.Pytester) -> None:
        source = "import sys\n\ndef test_other():\n    assert 1\n"
        result = run_pytest(source, "-W", "error")
        result.assert_outcomes(passed=1)
        said = [line for line in result.outlines if not line.startswith("plugins: ")]
        assert "kvbench" not in "\n".join(said)
