"""Carrying plans out: the executor behind the safety gate, and what it needs of a robot. No ROS."""

from nano_agent_ros.execution.back_end import BackEnd, Report, Router
from nano_agent_ros.execution.book import Settings
from nano_agent_ros.execution.executor import Executor
from nano_agent_ros.execution.intake import NEW_PLANS
from nano_agent_ros.execution.plan import Blocking

__all__ = ["NEW_PLANS", "BackEnd", "Blocking", "Executor", "Report", "Router", "Settings"]
