"""Quality of service by what a topic is for."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(
    depth: int,
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
) -> QoSProfile:
    return QoSProfile(depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=reliability, durability=durability)


COMMAND = _profile(50)
"""Words, actions and stops: none may be lost, and none may reach whoever joins later."""

LATEST = _profile(1, DurabilityPolicy.TRANSIENT_LOCAL)
"""A state: whoever joins later needs the last one."""

STATUS = _profile(20, DurabilityPolicy.TRANSIENT_LOCAL)
"""Progress of actions: whoever joins later sees how the last ones ended."""

REPORT = _profile(100, DurabilityPolicy.TRANSIENT_LOCAL)
"""Defect reports: whoever joins later gets those of the session."""

PARTIAL = _profile(1)
"""Words as they are being said: the newest count; reliable, so that nobody takes speech that is over for going on."""

MEASUREMENT = _profile(5)
"""Battery and pose: the newest counts."""

CAMERA = _profile(1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Pictures: the newest counts, and any publisher will do."""

SOUND = _profile(100, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Sound in pieces: any publisher will do, and a piece that comes late is worth nothing; some seconds may wait here."""

TRANSFORMS = _profile(100)
"""/tf, as tf2 publishes it."""
