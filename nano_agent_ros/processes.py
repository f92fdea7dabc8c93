"""Child processes whose output is forwarded line by line and that never outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

PATIENCE_S = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0))
"""The signals that end a process, and how long each is given."""

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before any fork: a child of a threaded process can load nothing safely


class Process:
    """One running command; `on_line` gets its output, from a thread of its own."""

    def __init__(
        self, name: str, command: Sequence[str], on_line: Callable[[str, str], None], environment: Mapping[str, str]
    ) -> None:
        """Start it, in a session of its own: Ctrl-C in the terminal reaches the parent, which ends it in order."""
        self.name = name
        self.stopping = False
        self._on_line = on_line
        self._process = subprocess.Popen(
            command,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=partial(_die_with, os.getpid()) if sys.platform == "linux" else None,
        )
        self._reader = threading.Thread(target=self._forward, name=f"output of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        self.stopping = True
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Have the kernel end it at once, which counts as an end that nobody asked for."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within the time; its last lines have been forwarded then."""
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(1.0)
        return True

    def _forward(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._on_line(self.name, line.rstrip("\n"))


def describe_exit(code: int) -> str:
    """An exit code in words: "signal SIGSEGV" or "exit code 1"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def stop_all(processes: Sequence[Process]) -> list[str]:
    """End processes together, ever more firmly; return the names of those that had to be killed."""
    killed = []
    for number, patience_s in PATIENCE_S:
        running = [p for p in processes if p.exit_code() is None]
        if number is signal.SIGKILL:
            killed = [p.name for p in running]
        for process in running:
            process.send(number)
        until = time.monotonic() + patience_s
        for process in running:
            process.wait(until - time.monotonic())
    for process in processes:
        process.wait(0.5)
    return killed


def _die_with(parent: int) -> None:
    """Have the kernel end this process if the parent is killed without a chance to do it (Linux)."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed in the meantime
        os._exit(1)
