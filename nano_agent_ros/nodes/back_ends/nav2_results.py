"""What Nav2 says of how a goal ended, as a report: the distributions of ROS differ in its fields and codes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from nano_agent_ros.execution import Report
from nano_agent_ros.robot.status import Fault, State

FAULTS = {
    "TIMEOUT": Fault.TIMEOUT,
    "TIMED_OUT": Fault.TIMEOUT,
    "COLLISION_AHEAD": Fault.BLOCKED,
    "NO_VALID_PATH": Fault.BLOCKED,
    "NO_VALID_CONTROL": Fault.BLOCKED,
    "FAILED_TO_MAKE_PROGRESS": Fault.BLOCKED,
    "PATIENCE_EXCEEDED": Fault.BLOCKED,
    "OCCUPIED": Fault.BLOCKED,
    "OUTSIDE_MAP": Fault.BLOCKED,
    "FAILED_TO_DETECT_DOCK": Fault.NOT_FOUND,
    "DOCK_NOT_IN_DB": Fault.INVALID_ARGUMENT,
    "DOCK_NOT_VALID": Fault.INVALID_ARGUMENT,
    "TF_ERROR": Fault.PRECONDITION,
}
"""What Nav2's error codes mean here, by the end of their names; any other is UNKNOWN with Nav2's own words."""

OF_SERVERS = {
    101: "INVALID_CONTROLLER",
    102: "TF_ERROR",
    103: "INVALID_PATH",
    104: "PATIENCE_EXCEEDED",
    105: "FAILED_TO_MAKE_PROGRESS",
    106: "NO_VALID_CONTROL",
    107: "CONTROLLER_TIMED_OUT",
    201: "INVALID_PLANNER",
    202: "TF_ERROR",
    203: "START_OUTSIDE_MAP",
    204: "GOAL_OUTSIDE_MAP",
    205: "START_OCCUPIED",
    206: "GOAL_OCCUPIED",
    207: "TIMEOUT",
    208: "NO_VALID_PATH",
}
"""Codes that NavigateToPose passes on from its controller (FollowPath) and planner (ComputePathToPose) without a name
of its own for them; the same in Jazzy and Kilted."""


def end_of(action_id: UUID, result: Any) -> Report:
    """What a result of Nav2 means. Humble's have no codes: whether it worked is the state of the goal alone."""
    code = int(getattr(result, "error_code", 0))
    missed = len(getattr(result, "missed_waypoints", ()))
    if code == 0 and getattr(result, "success", True) and not missed:
        return Report(action_id, State.FINISHED, 1.0)
    name = name_of(result, code)
    fault = next((fault for end, fault in FAULTS.items() if name.endswith(end)), Fault.UNKNOWN)
    words = getattr(result, "error_msg", "") or (f"{missed} waypoints were missed" if missed else "")
    words = words or name.lower().replace("_", " ") or "it did not succeed"
    return Report(action_id, State.FAILED, fault=fault, message=f"Nav2: {words}" + (f" (error {code})" if code else ""))


def name_of(result: Any, code: int) -> str:
    """The name of an error code: of the result's own constants, else of the servers behind it; empty if of neither."""
    kind = type(result)
    own = (n for n in dir(kind) if n.isupper() and code and getattr(kind, n) == code)
    return next(own, OF_SERVERS.get(code, ""))
