"""Parameters declared once, with type, range, choices and description, and read as one mapping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from nano_agent_ros.errors import ConfigError


@dataclass(frozen=True)
class Parameter:
    """One parameter: its type is that of `default`; numbers lie in [low, high], strings among `choices` if given.

    A `live` one takes effect at once, also while the node is active; `read_only` is for what counts at the start of the
    process only; all others take effect when the node is configured.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    read_only: bool = False

    @property
    def takes_effect(self) -> str:
        """When a change counts."""
        return "at once" if self.live else "at the start of the process" if self.read_only else "at configure"

    def descriptor(self) -> ParameterDescriptor:
        """The ROS form, range and choices included."""
        descriptor = ParameterDescriptor(description=self.description, read_only=self.read_only)
        among = f"one of {', '.join(self.choices)}; " if self.choices else ""
        descriptor.additional_constraints = f"{among}takes effect {self.takes_effect}"
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high)]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)]
        return descriptor

    def problem(self, value: Any) -> str:
        """Why a value of the right type cannot be used; empty if it can."""
        if self.choices and value not in self.choices:
            return f"parameter {self.name}: '{value}' is none of {', '.join(self.choices)}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"parameter {self.name}: {value} is not a finite number"
        return ""


Live = partial(Parameter, live=True)
"""A parameter that takes effect at once."""


class Parameters:
    """The parameters of one node. Those that are not live cannot be changed while it is configured."""

    def __init__(
        self, node: Node, declared: Iterable[Parameter], changed: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        """Declare them; a value that cannot be used is kept for `read` to complain about, so that the node stays up.

        `changed` gets all values when live ones have changed in a configured node.
        """
        self._node = node
        self._declared = {p.name: p for p in declared}
        self._changed = changed
        self._used: dict[str, Any] | None = None
        self._wrong: dict[str, str] = {}
        for parameter in self._declared.values():
            self._declare(parameter)
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._after_set)

    def _declare(self, parameter: Parameter) -> None:
        try:
            self._node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            self._wrong[parameter.name] = f"parameter {parameter.name}: {error}"
            self._node.declare_parameter(
                parameter.name, parameter.default, parameter.descriptor(), ignore_override=True
            )

    def read(self) -> Mapping[str, Any]:
        """All values by name; raises ConfigError that names each one that cannot be used.

        What is returned follows the live parameters until `release`: the same mapping shows their new values.
        """
        values = {name: self._node.get_parameter(name).value for name in self._declared}
        problems = [p.problem(values[name]) for name, p in self._declared.items()]
        problems = [*self._wrong.values(), *filter(None, problems)]
        if problems:
            raise ConfigError("; ".join(problems))
        self._used = values
        return values

    def release(self) -> None:
        """The node is not configured any more: every parameter may change."""
        self._used = None

    def _on_set(self, changes: list[RosParameter]) -> SetParametersResult:
        for change in changes:
            parameter = self._declared.get(change.name)
            problem = (parameter.problem(change.value) or self._untimely(parameter, change.value)) if parameter else ""
            if problem:
                return SetParametersResult(successful=False, reason=problem)
        return SetParametersResult(successful=True)

    def _untimely(self, parameter: Parameter, value: Any) -> str:
        used = self._used
        if used is None or parameter.live or used[parameter.name] == value:
            return ""
        return (
            f"parameter {parameter.name} takes effect at configure: "
            "deactivate and clean the node up, then set it and configure the node again"
        )

    def _after_set(self, changes: list[RosParameter]) -> None:
        for change in changes:
            self._wrong.pop(change.name, None)
        used = self._used
        changed = {c.name: c.value for c in changes if used is not None and used.get(c.name, c.value) != c.value}
        if used is not None and changed:
            used.update(changed)
            if self._changed is not None:
                self._changed(used)
