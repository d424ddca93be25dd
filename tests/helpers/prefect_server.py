"""A Prefect server of the tests' own on loopback, and what it knows."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A server whose history lies in a folder: its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "prefect"), "server", "start", "--host", "127.0.0.1"]
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with (home / "log").open("w") as log:
        server = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (home / "log").read_text()
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def ask(api: str, what: str, **conditions: Any) -> list[dict]:
    """Everything of a kind that the server knows, or what meets some conditions of its filters."""
    head = {"Content-Type": "application/json"}
    body = json.dumps(conditions).encode()
    request = urllib.request.Request(f"{api}/{what}/filter", data=body, headers=head, method="POST")
    return json.load(urllib.request.urlopen(request, timeout=30))


def wait_for(found: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while not (answer := found()) and time.monotonic() < end:
        time.sleep(0.1)
    return answer
