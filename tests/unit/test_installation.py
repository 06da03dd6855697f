"""The command that adds an extra fits the way in which this copy was installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kvbench
from kvbench import installation
from kvbench.installation import UNKNOWN_VERSION, install_hint, own_distribution, own_version

METADATA = """Metadata-Version: 2.4
Name: kvbench
Version: 1.2.3
Provides-Extra: hqq
Requires-Dist: rich>=14.0
Requires-Dist: hqq>=0.2.8; extra == 'hqq'
Requires-Dist: torchao>=0.16; extra == 'torchao'
"""
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package and its metadata into a folder that Python searches; `direct_url` tells where it is from."""

    def put(direct_url: dict[str, object] | None = None, *, code: bool = True) -> Path:
        site = tmp_path / "site"
        metadata = site / "kvbench-1.2.3.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(METADATA)
        if direct_url is not None:
            (metadata / "direct_url.json").write_text(json.dumps(direct_url))
        monkeypatch.setattr(sys, "path", [str(site)])
        if code:
            monkeypatch.setattr(installation, "PACKAGE", site / "kvbench")
        return site

    own_distribution.cache_clear()
    yield put
    own_distribution.cache_clear()


def test_from_an_index(install: Install) -> None:
    install()
    assert ("1.2.3", "pip install 'kvbench[hqq]'") == (own_version(), install_hint("hqq"))


def test_from_an_editable_checkout(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    monkeypatch.setattr(installation, "PACKAGE", checkout / "kvbench")
    install({"url": checkout.as_uri(), "dir_info": {"editable": True}}, code=False)
    assert ("1.2.3", f"pip install -e '{checkout}[hqq]'") == (own_version(), install_hint("hqq"))
    monkeypatch.chdir(checkout)
    assert "pip install -e '.[hqq]'" == install_hint("hqq")


def test_from_a_folder(install: Install, tmp_path: Path) -> None:
    install({"url": tmp_path.as_uri(), "dir_info": {}})
    assert f"pip install '{tmp_path}[hqq]'" == install_hint("hqq")


def test_from_a_wheel_that_is_still_there_and_from_one_that_has_gone(install: Install, tmp_path: Path) -> None:
    wheel = tmp_path / "kvbench-1.2.3-py3-none-any.whl"
    wheel.touch()
    install({"url": wheel.as_uri(), "archive_info": {}})
    assert f"pip install '{wheel}[hqq]'" == install_hint("hqq")
    wheel.unlink()
    assert "pip install 'hqq>=0.2.8'" == install_hint("hqq")


def test_from_a_repository_without_the_password_in_its_address(install: Install) -> None:
    url = "https://somebody:CANARY@code.example/kvbench.git"
    install({"url": url, "vcs_info": {"vcs": "git", "commit_id": "abc123"}})
    assert "pip install 'kvbench[hqq] @ git+https://code.example/kvbench.git@abc123'" == install_hint("hqq")


def test_in_an_environment_of_pipx(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    for place, hint in (("venvs", "pipx inject kvbench 'hqq>=0.2.8'"), (".cache", "pipx run --with 'hqq>=0.2.8' …")):
        environment = tmp_path / place / "kvbench"
        environment.mkdir(parents=True)
        (environment / "pipx_metadata.json").touch()
        monkeypatch.setattr(sys, "prefix", str(environment))
        assert hint == install_hint("hqq")


def test_the_metadata_of_another_copy_says_nothing_of_a_source_tree(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "PACKAGE", tmp_path / "tree" / "kvbench")
    install({"url": "file:///elsewhere", "dir_info": {"editable": True}}, code=False)
    assert UNKNOWN_VERSION == own_version() == kvbench.__version__
    assert f"pip install -e '{tmp_path / 'tree'}[hqq]'" == install_hint("hqq")


def test_metadata_that_cannot_be_read_counts_as_an_index(install: Install) -> None:
    site = install()
    (site / "kvbench-1.2.3.dist-info" / "direct_url.json").write_text("[")
    assert "pip install 'kvbench[hqq]'" == install_hint("hqq")
