"""`kvbench push`: shown first, sent on --yes; what the hub is sent is looked at as bytes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from .records import two_arms, write_run
from .test_shared import HUB_TOKEN, leaks, machine, run  # noqa: F401 - fixtures

DATASET = "some-org/measured"
COMMIT = f"https://huggingface.co/datasets/{DATASET}/commit/{'0' * 40}"


@dataclass
class Hub:
    """A hub with one data set: what it was asked and sent."""

    private: bool = True
    has_card: bool = False
    refusal: int | None = None
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    made: dict[str, object] = field(default_factory=dict)


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.take()
            self.answer({"id": DATASET, "private": hub.private, "sha": "0" * 40, "siblings": []})

        def do_HEAD(self) -> None:
            self.take()
            self.send_response(200 if hub.has_card else 404)
            if hub.has_card:
                self.send_header("ETag", '"1"')
                self.send_header("X-Repo-Commit", "0" * 40)
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            body = self.take()
            if hub.refusal is not None:
                return self.answer({"error": "no"}, hub.refusal)
            if self.path.endswith("/create"):
                hub.made = json.loads(body)
                return self.answer({"url": f"{huggingface_hub.constants.ENDPOINT}/datasets/{DATASET}"})
            if self.path.endswith("/validate-yaml"):
                return self.answer({"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                told = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]
                return self.answer({"files": told})
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self.answer({"commitUrl": COMMIT, "commitOid": "0" * 40, "success": True})

        def take(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.requests.append(f"{self.command} {self.path.partition('?')[0]}")
            hub.bodies.append(body)
            return body

        def answer(self, data: object, status: int = 200) -> None:
            content = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Tests print nothing."""

    return Handler


class TestWithoutYes:
    def test_it_is_shown_and_nothing_is_asked_of_the_hub(self, run_kvbench, run, hub):  # noqa: F811
        code, out, err = run_kvbench("push", DATASET, str(run.folder))
        assert (0, "") == (code, err)
        assert "runs/" + run.record.run_id + "/run.json  " in out
        assert f"1 run, 5 files, {out.split('files, ')[1].split(' for')[0]} for the data set {DATASET}\n" in out
        assert "[path] " in out
        assert "[secret] " in out
        assert out.endswith("nothing was sent; add --yes to send it\n")
        assert [] == hub.requests
        assert [] == leaks(out.encode())


class TestWithYes:
    def test_what_was_shown_is_sent_without_a_canary_to_a_private_data_set(self, run_kvbench, run, hub):  # noqa: F811
        code, out, err = run_kvbench("push", DATASET, str(run.folder), "--yes")
        assert (0, "") == (code, err)
        assert out.endswith(f"/datasets/{DATASET} (private)\n")
        assert "dataset" == hub.made["type"]
        assert hub.made.get("private", hub.made.get("visibility")) in (True, "private")  # by version of the client
        shown = {line.split("  ")[0] for line in out.splitlines() if "  " in line}
        assert shown == set(hub.files)
        assert HUB_TOKEN.encode() not in b"".join(hub.bodies)
        for content in (*hub.bodies, *hub.files.values()):
            assert [] == leaks(content)

    def test_what_is_sent_can_be_queried_and_compared_again(self, run_kvbench, hub, tmp_path):
        write_run(two_arms(), tmp_path / "results" / "a")
        run_kvbench("push", DATASET, "results", "--yes")
        for path, content in hub.files.items():
            file = tmp_path / "measured" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        code, out, _ = run_kvbench("export", "measured", "--format", "csv")
        assert (0, 3) == (code, len(out.splitlines()))
        assert 0 == run_kvbench("report", "measured")[0]

    def test_a_card_that_is_there_stays(self, run_kvbench, run, hub):  # noqa: F811
        hub.has_card = True
        assert 0 == run_kvbench("push", DATASET, str(run.folder), "--yes")[0]
        assert "README.md" not in hub.files
        assert hub.files

    def test_a_public_data_set_must_be_asked_for(self, run_kvbench, run, hub):  # noqa: F811
        hub.private = False
        code, _, err = run_kvbench("push", DATASET, str(run.folder), "--yes")
        assert (2, f"kvbench: {DATASET}: is public; add --public to send it there, or name another\n") == (code, err)
        assert {} == hub.files
        code, out, _ = run_kvbench("push", DATASET, str(run.folder), "--yes", "--public")
        assert 0 == code
        assert out.endswith("(public)\n")
        assert hub.made.get("private", hub.made.get("visibility")) in (False, "public")

    @pytest.mark.parametrize("status", [401, 403, 400])
    def test_a_refusal_is_one_line_that_says_what_to_do(self, run_kvbench, run, hub, status):  # noqa: F811
        hub.refusal = status
        code, _, err = run_kvbench("push", DATASET, str(run.folder), "--yes")
        assert (1, 1) == (code, len(err.splitlines()))
        assert f"({status})" in err
        assert ("hf auth login" in err) == (status != 400)
        assert [] == leaks(err.encode())


@pytest.mark.parametrize("name", ["", "x", "a/b/c", "../x", "a/..", "-a/b", "a/b c", "https://huggingface.co/a/b"])
def test_what_is_no_data_set_is_refused(run_kvbench, name):
    code, _, err = run_kvbench("push", "--", name)
    assert 2 == code
    assert "not the id of a data set; write it as ORG/NAME" in err


def test_offline_is_named(run_kvbench, run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, _, err = run_kvbench("push", DATASET, str(run.folder), "--yes")
    assert (2, f"kvbench: push {DATASET}: HF_HUB_OFFLINE is set: unset it to send\n") == (code, err)
