"""Between the package's own dataclasses and ROS messages. Times are seconds, angles radians, frames by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from uuid import UUID

from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseStamped, Quaternion
from rcl_interfaces.msg import Parameter as ParameterMessage
from rclpy.parameter import Parameter, parameter_value_to_python
from unique_identifier_msgs.msg import UUID as UUIDMessage

from nano_agent_ros.msg import ActionStatus, DefectReport, RobotAction
from nano_agent_ros.nodes.step import Step
from nano_agent_ros.robot.behaviours import Task
from nano_agent_ros.robot.kinematics import Pose
from nano_agent_ros.robot.simulation import Command, Status
from nano_agent_ros.safety import Order, Risk

Value = str | int | float

RISKS = {
    "none": RobotAction.RISK_NONE,
    "low": RobotAction.RISK_LOW,
    "medium": RobotAction.RISK_MEDIUM,
    "high": RobotAction.RISK_HIGH,
}
PRIORITIES = {
    "stop": RobotAction.PRIORITY_EMERGENCY,
    "cancel": RobotAction.PRIORITY_EMERGENCY,
    "pause": RobotAction.PRIORITY_EMERGENCY,
    "resume": RobotAction.PRIORITY_HIGH,
}
SEVERITIES = {
    "minor": DefectReport.SEVERITY_MINOR,
    "major": DefectReport.SEVERITY_MAJOR,
    "critical": DefectReport.SEVERITY_CRITICAL,
}


def uuid_message(key: UUID) -> UUIDMessage:
    """An id as a message."""
    return UUIDMessage(uuid=list(key.bytes))


def uuid_of(message: UUIDMessage) -> UUID:
    """An id from a message."""
    return UUID(bytes=bytes(message.uuid.tolist()))


def seconds_of(time: Time | Duration) -> float:
    """A time or duration message in seconds."""
    return float(time.sec) + time.nanosec * 1e-9


def time_message(seconds: float) -> Time:
    """A time of `time.time()`, to the nanosecond."""
    nanoseconds = round(seconds * 1e9)
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def duration_message(seconds: float) -> Duration:
    """A duration of 0 s or more as a message."""
    nanoseconds = max(0, round(seconds * 1e9))
    return Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def pose_message(pose: Sequence[float], frame_id: str, stamp: Time) -> PoseStamped:
    """A planar pose (x m, y m, yaw rad) as a stamped pose."""
    x, y, yaw = pose
    message = PoseStamped()
    message.header.frame_id, message.header.stamp = frame_id, stamp
    message.pose.position.x, message.pose.position.y = float(x), float(y)
    message.pose.orientation = Quaternion(z=math.sin(yaw / 2), w=math.cos(yaw / 2))
    return message


def pose_of(message: PoseStamped) -> Pose:
    """The planar part of a stamped pose."""
    p, q = message.pose.position, message.pose.orientation
    return Pose(p.x, p.y, math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z)))


def argument_messages(arguments: Mapping[str, Value]) -> list[ParameterMessage]:
    """Typed arguments as parameter messages, in order."""
    return [Parameter(name, value=value).to_parameter_msg() for name, value in arguments.items()]


def arguments_of(messages: Sequence[ParameterMessage]) -> dict[str, Value]:
    """Typed arguments from parameter messages; one without a value is left out."""
    values = {m.name: parameter_value_to_python(m.value) for m in messages}
    return {name: value for name, value in values.items() if isinstance(value, str | int | float)}


def action_message(
    step: Step, utterance_id: UUID, stamp: Time, frame_id: str, awaiting_confirmation: bool = False
) -> RobotAction:
    """A step of a plan as it goes to the robot, or (`awaiting_confirmation`) as it is shown before anyone agreed."""
    action = step.action
    message = RobotAction(
        action_id=uuid_message(step.action_id),
        utterance_id=uuid_message(utterance_id),
        plan_id=uuid_message(step.plan_id),
        step=step.step,
        step_count=step.step_count,
        skill=action.skill,
        arguments=argument_messages(action.arguments),
        target_id=action.target_id,
        has_pose=action.pose is not None,
        priority=PRIORITIES.get(action.skill, RobotAction.PRIORITY_NORMAL),
        risk=RISKS[action.risk],
        requires_confirmation=awaiting_confirmation and action.requires_confirmation,
        # A plan with such a step is sent only after a yes.
        confirmed=action.requires_confirmation and not awaiting_confirmation,
        confidence=action.confidence,
    )
    message.header.stamp, message.header.frame_id = stamp, frame_id
    if action.pose is not None:
        message.pose = pose_message(action.pose, frame_id, stamp)
    return message


def defect_message(step: Step, words: str, stamp: Time, frame_id: str) -> DefectReport:
    """A spoken defect: where and what from the action, the description as it was said."""
    action = step.action
    arguments = {key: str(value) for key, value in action.arguments.items()}
    message = DefectReport(
        report_id=uuid_message(step.action_id),
        source=DefectReport.SOURCE_SPOKEN,
        status=DefectReport.STATUS_OPEN,
        location_id=arguments.get("location", ""),
        object_id=arguments.get("object", ""),
        defect_type=arguments["defect_type"],
        severity=SEVERITIES.get(arguments.get("severity", ""), DefectReport.SEVERITY_UNKNOWN),
        description=words,
        confidence=action.confidence,
        has_pose=action.pose is not None,
    )
    message.header.stamp, message.header.frame_id = stamp, frame_id
    if action.pose is not None:
        message.pose = pose_message(action.pose, frame_id, stamp)
    return message


def command_of(message: RobotAction) -> Command:
    """What the simulated robot takes from an action."""
    pose = pose_of(message.pose) if message.has_pose else None
    return Command(
        uuid_of(message.action_id),
        uuid_of(message.plan_id),
        Task(message.skill, arguments_of(message.arguments), pose),
        message.step,
        message.step_count,
        confirmed=message.confirmed or not message.requires_confirmation,
    )


def order_of(message: RobotAction) -> Order:
    """What the safety gate judges of an action."""
    return Order(
        uuid_of(message.action_id),
        uuid_of(message.plan_id),
        message.skill,
        arguments_of(message.arguments),
        seconds_of(message.header.stamp),
        message.step,
        message.step_count,
        message.target_id,
        pose_of(message.pose) if message.has_pose else None,
        message.pose.header.frame_id,
        message.source,
        message.priority,
        Risk(message.risk) if message.risk in tuple(Risk) else Risk.HIGH,
        message.requires_confirmation,
        message.confirmed,
    )


def order_message(order: Order, stamp: Time, frame_id: str) -> RobotAction:
    """An order that passed the gate, as a robot that takes ExecuteAction gets it: alone, and agreed to if need be."""
    message = RobotAction(
        action_id=uuid_message(order.action_id),
        plan_id=uuid_message(order.plan_id),
        step=0,
        step_count=1,
        skill=order.skill,
        arguments=argument_messages(order.arguments),
        target_id=order.target_id,
        has_pose=order.pose is not None,
        priority=order.priority,
        risk=int(order.risk),
        confirmed=order.confirmed,
        source=order.source,
    )
    message.header.stamp, message.header.frame_id = stamp, frame_id
    if order.pose is not None:
        message.pose = pose_message((order.pose.x, order.pose.y, order.pose.yaw), frame_id, stamp)
    return message


def status_message(status: Status, stamp: Time, frame_id: str) -> ActionStatus:
    """How an action is getting on, as a message."""
    message = ActionStatus(
        action_id=uuid_message(status.action_id),
        skill=status.skill,
        state=int(status.state),
        progress=float(status.progress),
        error_code=int(status.fault),
        error_msg=status.message,
    )
    message.header.stamp, message.header.frame_id = stamp, frame_id
    return message
