"""What a node reports on /diagnostics besides itself (REP-107): tasks as those of the package diagnostic_updater."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from nano_agent_ros.machine import Reading
from nano_agent_ros.turn import Turn

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
HARDWARE_ID = "nano_agent_ros"
WINDOW = 5  # updates over which a frequency is measured
REMEMBERED = 20  # turns over which the engine's speed is a mean


@dataclass(frozen=True)
class Finding:
    """What a task has to say: a level of DiagnosticStatus, a line for people, figures by name."""

    level: bytes = OK
    message: str = "OK"
    values: Mapping[str, object] = field(default_factory=dict)


Task = Callable[[], Finding]


def status(name: str, finding: Finding) -> DiagnosticStatus:
    """A finding as a message."""
    return DiagnosticStatus(
        level=finding.level,
        name=name,
        hardware_id=HARDWARE_ID,
        message=finding.message,
        values=[KeyValue(key=key, value=_text(value)) for key, value in finding.values.items()],
    )


def status_of(name: str, task: Task) -> DiagnosticStatus:
    """What a task says now; one that fails is an error of its own and keeps no other from being told."""
    try:
        return status(name, task())
    except Exception as error:
        return status(name, Finding(ERROR, f"{type(error).__name__}: {error}"))


class Frequency:
    """How often something comes, as FrequencyStatus: an error if nothing did, a warning out of [low, high] Hz."""

    def __init__(self, now: Callable[[], float], low_hz: float, high_hz: float, tolerance: float = 0.1) -> None:
        """`now` in seconds; the bounds are widened by `tolerance`."""
        self._now, self._low, self._high = now, low_hz * (1 - tolerance), high_hz * (1 + tolerance)
        self._lock = threading.Lock()
        self._count = 0
        self._marks: deque[tuple[float, int]] = deque([(now(), 0)], maxlen=WINDOW)

    def tick(self) -> None:
        """It came."""
        with self._lock:
            self._count += 1

    def __call__(self) -> Finding:
        """Over the window, which begins with the oldest of the last updates."""
        with self._lock:
            now, count = self._now(), self._count
            since, before = self._marks[0]
            self._marks.append((now, count))
        events, window = count - before, now - since
        rate = events / window if window > 0 else 0.0
        values = {
            "Events in window": events,
            "Events since startup": count,
            "Duration of window (s)": window,
            "Actual frequency (Hz)": rate,
            "Minimum acceptable frequency (Hz)": self._low,
            "Maximum acceptable frequency (Hz)": self._high,
        }
        if count == 0:
            return Finding(STALE, "No events so far.", values)
        if events == 0:
            return Finding(ERROR, "No events recorded.", values)
        if rate < self._low:
            return Finding(WARN, "Frequency too low.", values)
        if rate > self._high:
            return Finding(WARN, "Frequency too high.", values)
        return Finding(OK, "Desired frequency met", values)


class TimeStamps:
    """Whether stamps are of now, as TimeStampStatus: an error for one older than `oldest_s`, or of the future."""

    def __init__(self, now: Callable[[], float], oldest_s: float, ahead_s: float = 1.0) -> None:
        """`now` by the clock of the stamps, in seconds. What is silent for longer than `oldest_s` is a warning."""
        self._now, self.oldest_s, self._ahead_s = now, oldest_s, ahead_s
        self._lock = threading.Lock()
        self._delays: list[float] = []
        self._came_s: float | None = None
        self._zero = False
        self._late = self._early = 0

    def tick(self, stamp_s: float) -> None:
        """A message with this stamp came."""
        with self._lock:
            self._came_s = self._now()
            if stamp_s == 0.0:
                self._zero = True
            else:
                self._delays.append(self._came_s - stamp_s)

    def __call__(self) -> Finding:
        """Of the stamps since the last update."""
        with self._lock:
            delays, self._delays, came_s = self._delays, [], self._came_s
            quiet_s = self._now() - came_s if came_s is not None else None
            zero, self._zero = self._zero, False
            self._late += bool(delays) and max(delays) > self.oldest_s
            self._early += bool(delays) and min(delays) < -self._ahead_s
            values = {
                "Earliest timestamp delay": min(delays, default=0.0),
                "Latest timestamp delay": max(delays, default=0.0),
                "Earliest acceptable timestamp delay": -self._ahead_s,
                "Latest acceptable timestamp delay": self.oldest_s,
                "Late diagnostic update count": self._late,
                "Early diagnostic update count": self._early,
            }
        if quiet_s is None:
            return Finding(STALE, "No data so far.", values)
        if zero:
            return Finding(ERROR, "Zero timestamp seen.", values)
        if delays and min(delays) < -self._ahead_s:
            return Finding(ERROR, "Timestamps too far in future seen.", values)
        if delays and max(delays) > self.oldest_s:
            return Finding(ERROR, "Timestamps too far in past seen.", values)
        if quiet_s > self.oldest_s:
            return Finding(WARN, f"No data for {quiet_s:.0f} s.", values)
        return Finding(OK, "Timestamps are reasonable.", values)


class EngineFigures:
    """How fast the model reads and writes, over the last turns."""

    def __init__(self) -> None:
        """Begin with none."""
        self._turns: deque[Turn] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def take(self, turn: Turn) -> None:
        """Note a turn."""
        with self._lock:
            self._turns.append(turn)

    def values(self) -> dict[str, object]:
        """Tokens per second and turn times; empty before the first turn."""
        with self._lock:
            turns = list(self._turns)
        if not turns:
            return {}
        read = sum(t.tokens.get("prompt", 0) - t.tokens.get("anticipated", 0) for t in turns)
        written = sum(t.tokens.get("reply", 0) for t in turns)
        return {
            "Prefill (tokens/s)": _rate(read, sum(t.timings.get("prefill", 0.0) for t in turns)),
            "Decode (tokens/s)": _rate(written, sum(t.timings.get("decode", 0.0) for t in turns)),
            "Last turn (ms)": turns[-1].timings.get("total", 0.0) * 1e3,
            "Longest turn (ms)": max(t.timings.get("total", 0.0) for t in turns) * 1e3,
            "Turns in window": len(turns),
        }


def queue(waiting: int, most: int, what: str) -> Finding:
    """How many wait of those that may: a warning once none more is taken."""
    full = waiting >= most
    return Finding(
        WARN if full else OK, f"{waiting} {what} wait{', no more are taken' if full else ''}",
        {"Waiting": waiting, "Most": most},
    )  # fmt: skip


def machine(reading: Reading, warn_c: float, warn_percent: float, note: str = "") -> Finding:
    """How the computer is: a warning from these limits on, an error 10 °C above, or with less than 2 % memory left."""
    values: dict[str, object] = {"Source": reading.source}
    values |= {f"Temperature {name} (C)": value for name, value in reading.temperatures_c.items()}
    percent, hottest = reading.memory_percent, reading.hottest
    if percent is not None and reading.memory_total is not None:
        values |= {"Memory used (%)": percent, "Memory (MB)": reading.memory_total / 1e6}
    if reading.power_mode:
        values["Power mode"] = reading.power_mode
    if reading.power_w is not None:
        values["Power (W)"] = reading.power_w
    if reading.gpu_load_percent is not None:
        values["GPU load (%)"] = reading.gpu_load_percent
    if note:
        values["jtop"] = note
    complaints: list[tuple[bytes, str]] = []
    if hottest is not None and hottest[1] >= warn_c:
        complaints.append((ERROR if hottest[1] >= warn_c + 10.0 else WARN, f"{hottest[0]} at {hottest[1]:.0f} °C"))
    if percent is not None and percent >= warn_percent:
        complaints.append((ERROR if percent >= 98.0 else WARN, f"{percent:.0f} % of the memory in use"))
    if not complaints:
        known = percent is not None or hottest is not None
        return Finding(OK, "OK", values) if known else Finding(STALE, "nothing can be read of this machine", values)
    return Finding(max(level for level, _ in complaints), ", ".join(text for _, text in complaints), values)


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0


def _text(value: object) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
