"""A Hugging Face hub of one model on this machine, speaking as much of its protocol as a download needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@contextmanager
def serve_hub(hub_id: str, commit: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of a folder as hub model `hub_id`; gives the address and the list of paths asked for so far."""
    asked: list[str] = []
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.split("?")[0]
            if path.startswith(f"/api/models/{hub_id}/revision/"):
                siblings = [{"rfilename": name} for name in sorted(files)]
                self.answer(json.dumps({"id": hub_id, "sha": commit, "siblings": siblings}).encode())
            elif path.startswith(f"/api/models/{hub_id}/tree/"):
                sizes = [(name, len(body), hashlib.sha1(body).hexdigest()) for name, body in sorted(files.items())]
                self.answer(
                    json.dumps([{"type": "file", "path": n, "size": s, "oid": o} for n, s, o in sizes]).encode()
                )
            elif path.startswith(f"/{hub_id}/resolve/") and path.split("/", 5)[5] in files:
                self.answer(files[path.split("/", 5)[5]])
            else:
                self.answer(b"{}", status=404)

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
