"""Parameters declared once, with type, range, choices and description, and read as one mapping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from nano_agent_ros.errors import ConfigError


@dataclass(frozen=True)
class Parameter:
    """One parameter: its type is that of `default`; numbers lie in [low, high], strings among `choices` if given."""

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        """The ROS form, range and choices included."""
        descriptor = ParameterDescriptor(description=self.description)
        if self.choices:
            descriptor.additional_constraints = "one of " + ", ".join(self.choices)
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


class Parameters:
    """The parameters of one node. They take effect when the node is configured."""

    def __init__(self, node: Node, declared: Iterable[Parameter]) -> None:
        """Declare them; a value that cannot be used is kept for `read` to complain about, so that the node stays up."""
        self._node = node
        self._declared = {p.name: p for p in declared}
        self._wrong: dict[str, str] = {}
        for parameter in self._declared.values():
            self._declare(parameter)
        node.add_on_set_parameters_callback(self._on_set)

    def _declare(self, parameter: Parameter) -> None:
        try:
            self._node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            self._wrong[parameter.name] = f"parameter {parameter.name}: {error}"
            self._node.declare_parameter(
                parameter.name, parameter.default, parameter.descriptor(), ignore_override=True
            )

    def read(self) -> Mapping[str, Any]:
        """All values by name; raises ConfigError that names each one that cannot be used."""
        values = {name: self._node.get_parameter(name).value for name in self._declared}
        problems = [p.problem(values[name]) for name, p in self._declared.items()]
        problems = [*self._wrong.values(), *filter(None, problems)]
        if problems:
            raise ConfigError("; ".join(problems))
        return values

    def _on_set(self, changes: list[RosParameter]) -> SetParametersResult:
        for change in changes:
            parameter = self._declared.get(change.name)
            problem = parameter.problem(change.value) if parameter else ""
            if problem:
                return SetParametersResult(successful=False, reason=problem)
        for change in changes:
            self._wrong.pop(change.name, None)
        return SetParametersResult(successful=True)
