"""Whoever watches over the processes of a graph: what ends or falls silent is started again, with growing pauses."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nano_agent_ros.graph import BringUpError, Graph
from nano_agent_ros.processes import describe_exit
from nano_agent_ros.units import Unit

LONGEST_STEP_S = 1.0  # of the supervisor's own time: while it does not run itself it cannot say who is silent


@dataclass(frozen=True)
class Limits:
    """How often, and after which pauses, a process is started again; times in seconds."""

    first_s: float = 1.0
    longest_s: float = 30.0
    crashes: int = 8
    """So many within `window_s`, and it is given up; 0: nothing is started again."""
    window_s: float = 300.0
    healthy_s: float = 60.0
    """After so long without a crash the earlier ones do not count any more."""
    silent_s: float = 10.0
    """An active node without a heartbeat for so long is killed; 0: never."""


class Restarts:
    """The crashes of one process, and what follows from them."""

    def __init__(self, limits: Limits) -> None:
        """None yet."""
        self._limits = limits
        self._crashes: deque[float] = deque()
        self._pause_s = limits.first_s

    def crash(self, now: float, healthy_s: float) -> float | None:
        """Note a crash after `healthy_s` of health; returns the pause until the next start, or None: it is given up."""
        limits = self._limits
        if healthy_s > limits.healthy_s:
            self._crashes.clear()
            self._pause_s = limits.first_s
        self._crashes.append(now)
        while now - self._crashes[0] > limits.window_s:
            self._crashes.popleft()
        if len(self._crashes) >= limits.crashes:
            return None
        pause_s = self._pause_s
        self._pause_s = min(2.0 * pause_s, limits.longest_s)
        return pause_s


@dataclass
class _Ward:
    """A unit with how it is: exactly one of up, rising (being brought up), due (to be started) and given up."""

    unit: Unit
    restarts: Restarts
    up_since: float | None
    rising: Iterator[None] | None = None
    due: float | None = None
    given_up: bool = False
    silence_s: dict[str, float] = field(default_factory=dict)
    beats: dict[str, float] = field(default_factory=dict)


class Supervisor:
    """Watches a graph that is up. Call `tick` several times a second, between turns of the graph's `spin`."""

    def __init__(self, graph: Graph, limits: Limits, say: Callable[[str], None]) -> None:
        """Take over from now on; `say` gets a sentence for each thing that happens."""
        self._graph = graph
        self._limits = limits
        self._say = say
        self._last = time.monotonic()
        self._wards = [_Ward(unit, Restarts(limits), self._last) for unit in graph.units]

    @property
    def any_left(self) -> bool:
        """Whether any process runs or will be started again."""
        return not all(ward.given_up for ward in self._wards)

    @property
    def given_up(self) -> list[str]:
        """Names of the units that are not started again."""
        return [ward.unit.name for ward in self._wards if ward.given_up]

    def tick(self) -> None:
        """See how everybody is, and do the next step for whoever is being started."""
        now = time.monotonic()
        step_s = min(now - self._last, LONGEST_STEP_S)
        self._last = now
        for ward in self._wards:
            if not ward.given_up:
                self._look_after(ward, now, step_s)

    def _look_after(self, ward: _Ward, now: float, step_s: float) -> None:
        name = ward.unit.name
        if ward.due is not None:
            if now >= ward.due:
                ward.due = None
                self._graph.start(ward.unit)
                ward.rising = self._graph.bring_up(ward.unit)
            return
        process = self._graph.processes[name]
        if ward.rising is None:
            code = process.exit_code()
            if code is not None:
                self._down(ward, now, f"{name} has ended ({describe_exit(code)})")
            elif silent := self._silent(ward, process.pid, step_s):
                process.kill()
                self._down(ward, now, f"{silent.strip('/')} was silent for {self._limits.silent_s:g} s and was killed")
            return
        try:
            next(ward.rising)
        except StopIteration:
            ward.rising, ward.up_since = None, now
            ward.silence_s, ward.beats = {}, {}
            self._say(f"{name} is up again")
        except BringUpError as error:
            process.kill()
            self._down(ward, now, str(error))

    def _down(self, ward: _Ward, now: float, why: str) -> None:
        healthy_s = now - ward.up_since if ward.up_since is not None else 0.0
        ward.rising, ward.up_since, limits = None, None, self._limits
        pause_s = ward.restarts.crash(now, healthy_s) if limits.crashes else None
        if pause_s is not None:
            ward.due = now + pause_s
            self._say(f"{why}; it is started again in {pause_s:g} s, the others go on")
            return
        ward.given_up = True
        often = f", {limits.crashes} times within {limits.window_s:g} s, and is not started again"
        self._say(f"{why}{often if limits.crashes else ''}; the other nodes go on")

    def _silent(self, ward: _Ward, pid: int, step_s: float) -> str:
        """The node that gave no heartbeat for too long; an empty string if none."""
        for name in ward.unit.node_names if self._limits.silent_s else ():
            pulse = self._graph.pulses.of(name, pid)
            beat = pulse.time if pulse else 0.0
            if beat != ward.beats.get(name):
                ward.beats[name], ward.silence_s[name] = beat, 0.0
            else:
                ward.silence_s[name] += step_s
            if ward.silence_s[name] > self._limits.silent_s:
                return name
        return ""
