"""The safety gate: policy, zones and the judge between model and robot. No ROS, no model."""

from nano_agent_ros.safety.gate import Gate
from nano_agent_ros.safety.order import Allowed, Order, Refused, RobotView, Verdict
from nano_agent_ros.safety.policy import CALMING, Limit, Policy, Rate, Risk, SkillRule, ZoneRule

__all__ = [
    "CALMING",
    "Allowed",
    "Gate",
    "Limit",
    "Order",
    "Policy",
    "Rate",
    "Refused",
    "Risk",
    "RobotView",
    "SkillRule",
    "Verdict",
    "ZoneRule",
]
