"""Any robot: a YAML file says which ROS action, service or topic does which skill, and what goes into its fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from builtin_interfaces.msg import Time as TimeMessage
from rclpy.node import Node

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.execution import BackEnd, Report
from nano_agent_ros.nodes.back_ends.callers import KINDS, Caller, Entry, make_caller
from nano_agent_ros.nodes.back_ends.interfaces import fill
from nano_agent_ros.resources import read_yaml
from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.status import Fault, State
from nano_agent_ros.safety import Order
from nano_agent_ros.skills import Site

KEYS = {*KINDS, "name", "fields", "defaults", "progress", "success", "message"}


class MissingArgument(Exception):
    """A field stands for an argument that the action does not have."""


class Mapping(BackEnd):
    """Calls what the file says. A service cannot be cancelled: it has ended when it answers."""

    def __init__(self, node: Node, report: Callable[[Report], None], site: Site, path: Path) -> None:
        """Read the file and make the clients; raises ConfigError naming file, skill and field."""
        super().__init__(report)
        self._node = node
        self._site = site
        self._entries, stops = read_mapping(path)
        self._callers: dict[str, Caller] = {}
        self._stops: list[Caller] = []
        try:
            for skill, entry in self._entries.items():
                self._callers[skill] = self._make(f"{path}: skill '{skill}'", entry)
            for number, entry in enumerate(stops):
                self._stops.append(self._make(f"{path}: stop, entry {number + 1}", entry))
        except Exception:
            self.close()
            raise

    def has(self, skill: str) -> bool:
        """What the file lists."""
        return skill in self._entries

    def start(self, order: Order, max_speed_mps: float | None) -> None:
        """Call it with its fields filled."""
        entry = self._entries[order.skill]
        values = {"target_id": order.target_id, **entry.defaults, **order.arguments}
        if order.pose is not None:
            values["pose"] = order.pose
        if max_speed_mps is not None:
            values["max_speed"] = max_speed_mps
        try:
            request = self._fill(self._callers[order.skill].make(), _expand(entry.fields, values, self._site))
        except MissingArgument as error:
            why = f"'{order.skill}' needs {error}, says the mapping file"
            self.report(Report(order.action_id, State.REJECTED, fault=Fault.INVALID_ARGUMENT, message=why))
        except ConfigError as error:
            self.report(Report(order.action_id, State.REJECTED, fault=Fault.INVALID_ARGUMENT, message=str(error)))
        else:
            self._callers[order.skill].call(order.action_id, request)

    def cancel(self, action_id: UUID) -> None:
        """Cancel its goal, if it is one."""
        for caller in self._callers.values():
            caller.cancel(action_id)

    def stop(self) -> None:
        """Cancel every goal and call what the file lists under `stop`."""
        for caller in self._callers.values():
            caller.cancel_all()
        for caller in self._stops:
            caller.call(UUID(int=0), self._fill(caller.make(), caller.entry.fields))

    def close(self) -> None:
        """Destroy the clients."""
        super().close()
        for caller in (*self._callers.values(), *self._stops):
            caller.close()

    def _make(self, where: str, entry: Entry) -> Caller:
        try:
            return make_caller(self._node, entry, lambda report: self.report(report))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def _fill(self, message: Any, fields: dict[str, Any]) -> Any:
        stamp: TimeMessage = self._node.get_clock().now().to_msg()
        return fill(message, fields, self._site.frame_id, stamp)


def read_mapping(path: Path) -> tuple[dict[str, Entry], list[Entry]]:
    """The entries by skill, and those of a stop; raises ConfigError naming file, skill and key."""
    data = read_yaml(path)
    if not isinstance(data, dict) or not isinstance(data.get("skills"), dict) or set(data) - {"skills", "stop"}:
        raise ConfigError(
            f"{path}: needs 'skills:', a mapping of skills to what does them, and at most 'stop:' beside it"
        )
    stops = data.get("stop") or []
    if not isinstance(stops, list):
        raise ConfigError(f"{path}: stop is a list of what is called on a stop")
    entries = {str(skill): _entry(f"{path}: skill '{skill}'", body) for skill, body in data["skills"].items()}
    return entries, [_entry(f"{path}: stop, entry {n + 1}", body) for n, body in enumerate(stops)]


def _entry(where: str, body: Any) -> Entry:
    if not isinstance(body, dict) or set(body) - KEYS:
        extra = f"; '{sorted(set(body) - KEYS)[0]}' is unknown" if isinstance(body, dict) else ""
        raise ConfigError(f"{where}: is a mapping of {', '.join(sorted(KEYS))}{extra}")
    kinds = [kind for kind in KINDS if kind in body]
    if len(kinds) != 1 or not isinstance(body.get("name"), str):
        raise ConfigError(f"{where}: needs one of {', '.join(KINDS)} with its type, and its name")
    for key in ("fields", "defaults"):
        if not isinstance(body.get(key) or {}, dict):
            raise ConfigError(f"{where}: {key} is a mapping of names to values")
    texts = {key: str(body.get(key, "")) for key in ("progress", "success", "message")}
    kind = kinds[0]
    return Entry(kind, str(body[kind]), body["name"], body.get("fields") or {}, body.get("defaults") or {}, **texts)


def _expand(value: Any, values: dict[str, Any], site: Site) -> Any:
    """The value with every `$name` replaced by what it stands for."""
    if isinstance(value, dict):
        return {key: _expand(inner, values, site) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, values, site) for inner in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value.startswith("$$"):
        return value[1:]
    name = value[1:]
    if name.startswith("pose_of."):
        place = site.locations.get(str(values.get(name.removeprefix("pose_of."))))
        if place is None or place.pose is None:
            raise MissingArgument(f"a place with a pose as '{name.removeprefix('pose_of.')}'")
        return Pose(*place.pose)
    if name not in values:
        raise MissingArgument(f"'{name}'")
    return values[name]
