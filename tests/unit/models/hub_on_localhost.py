"""A hub small enough to read: one repository, served over HTTP on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """What the server knows. `refusal` is a status with an `X-Error-Code`, given for every request."""

    id: str
    folder: Path
    refusal: tuple[int, str] | None = None
    gated_files: bool = False
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serve(repository: Repository) -> Iterator[str]:
    """The address of a hub that holds this repository."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(repository))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(repository: Repository) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond(with_body=True)

        def do_HEAD(self) -> None:
            self._respond(with_body=False)

        def log_message(self, format: str, *args: object) -> None:
            """Tests print nothing."""

        def _respond(self, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            repository.requests.append(path)
            if repository.refusal is not None:
                return self._refuse(*repository.refusal)
            if path.startswith(f"/api/models/{repository.id}/tree/"):
                return self._send(json.dumps(self._tree()).encode(), with_body)
            if path.startswith(f"/api/models/{repository.id}"):
                return self._send(json.dumps(self._info()).encode(), with_body)
            if path.startswith(f"/{repository.id}/resolve/"):
                if repository.gated_files:
                    return self._refuse(403, "GatedRepo")
                file = repository.folder / path.split("/", 5)[5]
                if file.is_file():
                    return self._send(file.read_bytes(), with_body)
                return self._refuse(404, "EntryNotFound")
            return self._refuse(404, "RepoNotFound")

        def _info(self) -> dict[str, object]:
            files = [{"rfilename": entry["path"]} for entry in self._tree()]
            return {"_id": "1", "id": repository.id, "modelId": repository.id, "sha": COMMIT, "siblings": files}

        def _tree(self) -> list[dict[str, object]]:
            files = sorted(file for file in repository.folder.rglob("*") if file.is_file())
            return [
                {
                    "type": "file",
                    "path": file.relative_to(repository.folder).as_posix(),
                    "size": file.stat().st_size,
                    "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
                }
                for file in files
            ]

        def _send(self, body: bytes, with_body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler
