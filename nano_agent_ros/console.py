"""The terminal of `nano-agent up`: what it prints, what is typed, and the signals that end it."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_PRINTING = threading.Lock()
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text: str) -> None:
    """Print a line of the supervisor's own."""
    print_line("nano-agent", text)


def print_line(name: str, line: str) -> None:
    """Print a line of a node's."""
    with _PRINTING:
        print(f"{name:>10} | {line}", flush=True)


class Keyboard:
    """Lines typed while something else goes on."""

    def __init__(self, hint: str) -> None:
        """Begin to read standard input, unless another job of the terminal has it; a person at one sees the hint."""
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        if _may_read_terminal():
            if sys.stdin.isatty():
                say(hint)
            threading.Thread(target=self._read, name="keyboard", daemon=True).start()

    def lines(self) -> Iterator[str]:
        """What has been typed since the last call."""
        while not self._lines.empty():
            yield self._lines.get()

    def _read(self) -> None:
        for line in sys.stdin:
            if line.strip():
                self._lines.put(line.strip())


def _may_read_terminal() -> bool:
    """A background job that reads its terminal would be suspended."""
    try:
        return not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaf_to_signals() -> Iterator[None]:
    """The same signals do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, signal.SIG_IGN) for n in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
