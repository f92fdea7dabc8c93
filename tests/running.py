"""`nano-agent` commands as processes of a test: their output line by line, their nodes, and no leftovers."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 120.0
COMMAND = (sys.executable, "-c", "import sys; from nano_agent_ros.cli import main; sys.exit(main())")


class Running:
    """A `nano-agent` command whose nodes can be told from all others by an environment variable."""

    def __init__(self, *arguments: str) -> None:
        self.mark = f"NANO_AGENT_TEST={random.SystemRandom().getrandbits(64):x}"
        name, value = self.mark.split("=")
        self.domain = random.SystemRandom().randint(1, 100)
        environment = {
            **os.environ,
            name: value,
            "ROS_DOMAIN_ID": str(self.domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        }
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line)

    def wait_for_line(self, words: str) -> str:
        """The first line with these words; lines of several nodes come in any order."""
        if seen := [line for line in self.lines if words in line]:
            return seen[0]
        until = time.monotonic() + PATIENCE_S
        while (left := until - time.monotonic()) > 0:
            try:
                line = self._queue.get(timeout=min(left, 0.5))
            except queue.Empty:
                assert self.process.poll() is None or not self._queue.empty(), f"ended: {''.join(self.lines)}"
                continue
            self.lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"no '{words}' within {PATIENCE_S:.0f} s: {''.join(self.lines)}")

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        while not self._queue.empty():
            self.lines.append(self._queue.get())
        return code

    def nodes(self) -> dict[str, int]:
        """Process ids of its nodes that are alive, by name; of those that hold a whole robot, by namespace."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().decode(errors="replace")
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if self.mark in environment and (match := re.search(r"nano_agent_ros\.nodes\.(\w+)", command)):
                where = re.search(r"__ns:=/(\w*)", command)
                whole = match.group(1) == "robot" and where is not None
                found[where.group(1) if whole and where else match.group(1)] = int(folder.name)
        return found

    def kill(self) -> None:
        for pid in [self.process.pid, *self.nodes().values()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def running() -> Iterator[list[Running]]:
    started: list[Running] = []
    yield started
    for each in started:
        each.kill()


def up(running: list[Running], *arguments: str) -> Running:
    running.append(Running("up", "--audio-source", "none", *arguments))
    return running[-1]
