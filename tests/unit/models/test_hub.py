"""A model of the hub: fetched once, used offline, refused in one sentence."""

from __future__ import annotations

import shutil
import socket
import time

import huggingface_hub.constants
import pytest
from hub_on_localhost import COMMIT, Repository, serve

from kvbench.errors import ModelUnavailable
from kvbench.models import hub
from kvbench.models.hub import explained, hub_config_folder, hub_folder

ID = "some-org/some-model"


def send_requests_to(address, monkeypatch):
    """What HF_ENDPOINT does, for a client that has read its environment already."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty hub cache, and no way to the real hub."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        send_requests_to(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)
        yield folder


@pytest.fixture
def repository(monkeypatch, sharded_folder):
    """A repository like Mistral's: the weights in shards, and a second copy that transformers does not read."""
    (sharded_folder / "consolidated.safetensors").write_bytes(b"x" * 1000)
    (sharded_folder / "pytorch_model.bin").write_bytes(b"x" * 1000)
    (sharded_folder / "modeling.py").write_text("raise SystemExit")
    (sharded_folder / "onnx").mkdir()
    (sharded_folder / "onnx" / "config.json").write_text("{}")
    repository = Repository(ID, sharded_folder)
    with serve(repository) as address:
        send_requests_to(address, monkeypatch)
        yield repository


@pytest.fixture
def cached(cache, llama_folder):
    """The model in the cache's own layout, as an earlier download left it."""
    snapshot = cache / "models--some-org--some-model" / "snapshots" / COMMIT
    shutil.copytree(llama_folder, snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    return snapshot


def names(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


class TestOnlyWhatIsNeededIsFetched:
    def test_configs_tokenizer_and_the_shards_of_the_index(self, repository):
        fetched = names(hub_folder(ID, None))
        unwanted = {"consolidated.safetensors", "pytorch_model.bin", "modeling.py", "onnx/config.json"}
        assert names(repository.folder) - unwanted == fetched

    def test_python_files_when_they_may_run(self, repository):
        assert (hub_folder(ID, None, code=True) / "modeling.py").is_file()

    def test_a_folder_is_named_for_the_commit(self, repository):
        assert hub_folder(ID, None).name == COMMIT

    def test_the_config_alone_for_random_weights(self, repository):
        assert names(hub_config_folder(ID, None)) == {"config.json"}

    def test_pytorch_weights_where_there_are_no_others(self, repository):
        for file in repository.folder.glob("model*"):
            file.unlink()
        assert "pytorch_model.bin" in names(hub_folder(ID, None))

    def test_a_repository_without_weights_is_refused_before_any_download(self, repository):
        for file in (*repository.folder.glob("model*"), repository.folder / "pytorch_model.bin"):
            file.unlink()
        with pytest.raises(ModelUnavailable, match=r"neither model\.safetensors nor pytorch_model\.bin"):
            hub_folder(ID, None)
        assert not [path for path in repository.requests if "/resolve/" in path]


class TestWithoutAConnection:
    def test_a_cached_model_is_used(self, cached):
        assert hub_folder(ID, None) == cached
        assert hub_config_folder(ID, None) == cached

    def test_a_downloaded_model_is_used(self, repository, monkeypatch):
        downloaded = hub_folder(ID, None)
        repository.refusal = (503, "")
        assert hub_folder(ID, None) == downloaded

    def test_the_clients_offline_mode_is_named(self, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set"):
            hub_folder(ID, None)

    def test_a_pinned_commit_in_the_cache_asks_nobody(self, cached, monkeypatch):
        monkeypatch.setattr(hub, "HfApi", None)
        assert hub_folder(ID, COMMIT) == cached
        assert hub_config_folder(ID, COMMIT) == cached

    def test_an_unknown_model_is_refused_at_once_with_the_ways_out(self):
        started = time.monotonic()
        with pytest.raises(ModelUnavailable) as refusal:
            hub_folder(ID, None)
        assert time.monotonic() - started < 3
        assert str(refusal.value) == (
            "no connection to the hub (Connection refused) and some-org/some-model is not in the local cache: connect,"
            " or use model.weights=random, which needs no download, or model=path with a local folder"
        )

    def test_half_a_download_is_not_a_model(self, cached):
        (cached / "model.safetensors").unlink()
        with pytest.raises(ModelUnavailable, match="no connection to the hub"):
            hub_folder(ID, None)

    def test_a_hub_that_does_not_answer_is_given_up_on(self, monkeypatch):
        class Silent:
            def model_info(self, *args, **kwargs):
                time.sleep(1)  # a name server that is gone: no timeout of the client's ends it

        monkeypatch.setattr(hub, "HfApi", Silent)
        monkeypatch.setattr(hub, "PROBE_S", 0.05)
        with pytest.raises(ModelUnavailable, match=r"no answer within 0\.05 s"):
            hub_folder(ID, None)

    def test_the_users_own_timeout_replaces_ours(self, monkeypatch):
        asked = {}

        class Api:
            def model_info(self, id, revision, timeout):
                asked["timeout"] = timeout
                raise ConnectionError

        monkeypatch.setattr(hub, "HfApi", Api)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_ETAG_TIMEOUT", 42)
        with pytest.raises(ModelUnavailable):
            hub_folder(ID, None)
        assert asked["timeout"] == 42


class TestRefusalsOfTheHubSayWhatToDo:
    @pytest.mark.parametrize(
        ("status", "code", "sentence"),
        [
            (401, "GatedRepo", "is gated: accept its licence at https://huggingface.co/some-org/some-model and log in"),
            (404, "RepoNotFound", "the hub has no model some-org/some-model that you may see: check model.id"),
            (404, "RevisionNotFound", "model.revision=v9: some-org/some-model has no such commit, tag or branch"),
            (401, "Invalid credentials in Authorization header", "the hub rejects the token"),
            (403, "Forbidden", "your token may not read some-org/some-model"),
            (429, "TooMany", "the hub limits your rate of requests"),
            (503, "Down", "no connection to the hub (it answers 503)"),
        ],
    )
    def test_in_one_sentence(self, repository, status, code, sentence):
        repository.refusal = (status, code)
        with pytest.raises(ModelUnavailable) as refusal, explained(ID, "v9"):
            hub_folder(ID, "v9")
        assert sentence in str(refusal.value)
        assert "\n" not in str(refusal.value)

    def test_a_gated_repository_that_shows_its_file_list(self, repository):
        repository.gated_files = True
        with pytest.raises(ModelUnavailable, match="is gated"), explained(ID):
            hub_folder(ID, None)

    def test_an_id_that_is_none(self):
        with (
            pytest.raises(ModelUnavailable, match=r"model\.id=a/b/c: not a hub id; write it as ORG/NAME"),
            explained("a/b/c"),
        ):
            hub_folder("a/b/c", None)
