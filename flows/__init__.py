"""Prefect flows and the command line: the only package that knows Prefect."""

import os
import threading

# Prefect reads these when it is first imported. A cold local API takes up to 20 s, its own default limit; no telemetry.
# The level is that of the terminal alone: there an error is one sentence of ours, not Prefect's traceback. The server
# gets every log line of flows and tasks.
for _name, _value in {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}.items():
    os.environ.setdefault(_name, _value)


def _drop_prefects_exit_calls() -> None:
    """Prefect's services do not live in a forked child, such as a `DataLoader` worker, and fail there at its exit."""
    calls = getattr(threading, "_threading_atexits", [])
    owners = [type(getattr(call.func, "__self__", None)).__module__ for call in calls]
    calls[:] = [call for call, owner in zip(calls, owners, strict=True) if not owner.startswith("prefect.")]


os.register_at_fork(after_in_child=_drop_prefects_exit_calls)
