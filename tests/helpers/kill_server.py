"""A process that has imported everything and forks children which run merloco: a child can be killed at any moment.

Imports take seconds and are the same every time; without them, kills fall on the work. One JSON line asks for a child:

    {"argv": [...]}                run the command line; or {"call": "module:function", "args": [...]}
    {"after": 0.3}                 kill -9 this many seconds after its start
    {"step": 7, "within": folder}  kill -9 just before its 7th change of files under a folder
    {"limit": 100000}              no file may become larger than so many bytes
    {"environment": {...}}         variables that the child sets first

and one JSON line answers: exit code (negative: killed by that signal), seconds, and what was printed.
"""

import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock"}
WRITING = os.O_WRONLY | os.O_RDWR


class KillServer:
    """The asking side: one server process, one child at a time."""

    def __init__(self, cwd: Path) -> None:
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, "-m", "tests.helpers.kill_server"]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *argv: str, **request: Any) -> dict:
        """Run `merloco *argv`, or with `call=` a function, in a new child."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"argv": list(argv), **request}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """End the server; the end of its input would not do, for a forked process may hold the pipe open."""
        self.process.terminate()
        self.process.wait()


def serve() -> None:
    """Answer requests until standard input ends."""
    for module in (
        "merloco.flows.cli.app",
        "merloco.flows.extract.jobs",
        "merloco.flows.finetune.service",
        "merloco.flows.experiments.service",
        "merloco.flows.extract.shard_queue",
        "merloco.flows.transcribe.service",
        "merloco.features.maintenance.check",
        "tests.integration.test_kill",
    ):
        importlib.import_module(module)
    from merloco.models.encoders.base import registered

    registered("minilm")
    from transformers import AutoModel, AutoTokenizer, WhisperForConditionalGeneration  # noqa: F401  (on being named)

    for line in sys.stdin:
        print(json.dumps(run_child(json.loads(line))), flush=True)


def run_child(request: dict) -> dict:
    """Fork, run, perhaps kill, and say how it ended."""
    with tempfile.TemporaryFile("w+") as output:
        begun = time.monotonic()
        pid = os.fork()
        if not pid:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            child(request)
        handle = os.pidfd_open(pid)
        if "after" in request and not select.select([handle], [], [], request["after"])[0]:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(handle)
        output.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - begun,
            "output": output.read(),
        }


def child(request: dict) -> None:
    """The child: never returns."""
    code: Any = 70
    try:
        os.environ.update(request.get("environment", {}))
        if "limit" in request:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
        if "step" in request:
            kill_at(request["step"], request["within"])
        if "call" in request:
            module, _, function = request["call"].partition(":")
            getattr(importlib.import_module(module), function)(*request["args"])
        else:
            sys.argv = ["merloco", *request["argv"]]
            importlib.import_module("merloco.flows.cli.app").main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def kill_at(step: int, within: str) -> None:
    """Kill this process just before its `step`-th change of the files under a folder."""
    left = [step]

    def hook(event: str, arguments: tuple) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if event not in CHANGES and not opened:
            return
        if event == "fcntl.flock" or str(arguments[0]).startswith(within):
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    serve()
