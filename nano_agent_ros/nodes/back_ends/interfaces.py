"""ROS types by name at run time, and messages filled from plain values: what is not installed is named."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from builtin_interfaces.msg import Duration
from builtin_interfaces.msg import Time as TimeMessage
from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import PoseStamped

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.nodes.conversions import duration_message, pose_message
from nano_agent_ros.robot.kinematics import Pose


def load_interface(name: str) -> Any:
    """The class of a type such as `nav2_msgs/action/NavigateToPose`; raises ConfigError with the way to get it."""
    parts = name.split("/")
    if len(parts) != 3 or parts[1] not in ("msg", "srv", "action") or not all(parts):
        raise ConfigError(f"'{name}' is no ROS type such as std_srvs/srv/Trigger")
    package, kind, short = parts
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), short)
    except ImportError as error:
        distribution = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
        install = f"apt-get install ros-{distribution}-{package.replace('_', '-')}"
        raise ConfigError(
            f"the type '{name}' needs the ROS package '{package}', which is not installed here ({error}); "
            f"install it ({install}), or source the workspace that has it"
        ) from None
    except AttributeError:
        raise ConfigError(f"the ROS package '{package}' has no {kind} '{short}'") from None


def fill(message: Any, values: Mapping[str, Any], frame_id: str, stamp: TimeMessage) -> Any:
    """Set fields of a message from plain values and return it; raises ConfigError naming a field that it lacks.

    A Pose becomes a Pose or PoseStamped message in `frame_id`, a number of seconds a Duration, a list an array.
    """
    types = message.get_fields_and_field_types()
    for name, value in values.items():
        if name not in types:
            raise ConfigError(f"{type(message).__name__} has no field '{name}'; it has {', '.join(types)}")
        try:
            setattr(message, name, _value(types[name], getattr(message, name), value, frame_id, stamp))
        except (AssertionError, TypeError, ValueError) as error:
            raise ConfigError(f"{type(message).__name__}.{name} ({types[name]}) cannot be {value!r}: {error}") from None
    return message


def _value(kind: str, now: Any, value: Any, frame_id: str, stamp: TimeMessage) -> Any:
    if kind.startswith("sequence<") or kind.endswith("]"):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError("it is an array: give it a list")
        inner = kind.removeprefix("sequence<").split(",")[0].split("[")[0].rstrip(">").strip()
        make = _make(inner)
        return [_value(inner, make(), item, frame_id, stamp) for item in value]
    if isinstance(value, Pose):
        posed = pose_message((value.x, value.y, value.yaw), frame_id, stamp)
        if isinstance(now, PoseStamped):
            return posed
        if isinstance(now, PoseMessage):
            return posed.pose
        raise TypeError("a pose fits geometry_msgs/Pose and geometry_msgs/PoseStamped only")
    if isinstance(now, Duration) and isinstance(value, int | float):
        return duration_message(float(value))
    if hasattr(now, "get_fields_and_field_types"):
        if not isinstance(value, Mapping):
            raise TypeError("it has fields of its own: give it a mapping")
        return fill(now, value, frame_id, stamp)
    if isinstance(now, bool):
        if not isinstance(value, bool):
            raise TypeError("it is true or false")
        return value
    if isinstance(now, int) and not _fits(kind, value):
        raise ValueError("it is a whole number within its type")
    return type(now)(value)


def _fits(kind: str, value: Any) -> bool:
    # rclpy does not look before it sends.
    bits = 8 if kind in ("octet", "byte") else int(kind.lstrip("uint"))
    low, high = (0, 2**bits - 1) if kind[0] in "uo" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return float(value) == int(value) and low <= int(value) <= high


def _make(kind: str) -> Any:
    """What makes an empty element of an array of this type."""
    if "/" in kind:
        package, short = kind.split("/")[0], kind.split("/")[-1]
        return load_interface(f"{package}/msg/{short}")
    if kind in ("boolean", "bool"):
        return bool
    return str if "string" in kind else float if kind in ("float", "double") else int
