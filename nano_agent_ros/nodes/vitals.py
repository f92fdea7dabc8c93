"""What the agent tells on /diagnostics: its engine, its queue, and the computer that it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nano_agent_ros.machine import open_machine
from nano_agent_ros.nodes.diagnostics import ERROR, OK, EngineFigures, Finding, Task, machine, queue
from nano_agent_ros.nodes.thinking import Thinking


class Vitals:
    """The tasks of one configured agent. `settings` is the mapping of its parameters, which follows the live ones."""

    def __init__(self, thinking: Thinking, figures: EngineFigures, settings: Mapping[str, Any]) -> None:
        """Find out what tells of this computer."""
        self._thinking, self._figures, self._settings = thinking, figures, settings
        self._machine, self._note = open_machine()

    def close(self) -> None:
        """Read the computer no more."""
        self._machine.close()

    def tasks(self) -> dict[str, Task]:
        """The tasks by name."""
        return {"engine": self._engine, "queue": self._queue, "machine": self._computer}

    def _engine(self) -> Finding:
        agent, failure, values = self._thinking.dialogue.agent, self._thinking.failure, self._figures.values()
        values |= {"Turns": agent.turns, "Context (tokens)": agent.context_tokens, "State (bytes)": agent.state_bytes}
        return Finding(ERROR, failure, values) if failure else Finding(OK, "OK", values)

    def _queue(self) -> Finding:
        return queue(self._thinking.waiting, self._settings["max_waiting"], "utterances")

    def _computer(self) -> Finding:
        limits = (self._settings["warn_temperature_c"], self._settings["warn_memory_percent"])
        return machine(self._machine.read(), *limits, self._note)
