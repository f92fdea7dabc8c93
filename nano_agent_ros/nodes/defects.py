"""Between the inspector's reports and DefectReport messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sensor_msgs.msg import RegionOfInterest

from nano_agent_ros.inspection.book import Spoken
from nano_agent_ros.inspection.finding import Box
from nano_agent_ros.inspection.policy import Severity
from nano_agent_ros.inspection.report import Report
from nano_agent_ros.msg import DefectReport
from nano_agent_ros.nodes.conversions import pose_message, pose_of, seconds_of, uuid_message, uuid_of


def report_message(report: Report, pictures: list[Path], frame_id: str) -> DefectReport:
    """A report as it is published; `pictures` are the files of its evidence. The pictures themselves stay on disk."""
    message = DefectReport(
        report_id=uuid_message(report.report_id),
        source=int(report.source),
        status=int(report.status),
        location_id=report.location_id,
        object_class=report.object_class,
        object_id=report.object_id,
        defect_type=report.defect_type,
        severity=int(report.severity),
        description=report.description,
        recommended_action=report.recommended_action,
        confidence=float(report.confidence),
        has_pose=report.pose is not None,
        regions=[_region(e.region) for e in report.evidence],
        evidence_uris=[path.resolve().as_uri() for path in pictures],
    )
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(report.last_seen * 1e9), 10**9)
    if report.pose is not None:
        message.pose = pose_message(report.pose, frame_id, message.header.stamp)
    return message


def spoken_of(message: DefectReport, location: str) -> Spoken:
    """What a person reported; `location` is where the robot is, for those who did not say where."""
    severity = message.severity if message.severity in Severity.__members__.values() else Severity.UNKNOWN
    pose = pose_of(message.pose) if message.has_pose else None
    return Spoken(
        uuid_of(message.report_id),
        seconds_of(message.header.stamp),
        message.location_id or location,
        message.object_id,
        message.defect_type,
        Severity(severity),
        message.description,
        float(message.confidence),
        (pose.x, pose.y, pose.yaw) if pose else None,
    )


def detection_array_type() -> Any | None:
    """vision_msgs/msg/Detection2DArray, or None if vision_msgs is not installed."""
    try:
        from vision_msgs.msg import Detection2DArray
    except ImportError:
        return None
    return Detection2DArray


def _region(box: Box) -> RegionOfInterest:
    left, top = max(0, round(box.x)), max(0, round(box.y))
    return RegionOfInterest(
        x_offset=left,
        y_offset=top,
        width=max(0, round(box.x + box.width) - left),
        height=max(0, round(box.y + box.height) - top),
    )
