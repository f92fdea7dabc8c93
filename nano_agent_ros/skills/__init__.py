"""What the robot can do and where: skills and site from YAML, and the check of every call against both."""

from nano_agent_ros.skills.evidence import checked, unheard, was_heard
from nano_agent_ros.skills.ground import Action, Call, GroundingError, ground
from nano_agent_ros.skills.registry import Argument, Skill, Skills
from nano_agent_ros.skills.site import Location, Site

__all__ = [
    "Action",
    "Argument",
    "Call",
    "GroundingError",
    "Location",
    "Site",
    "Skill",
    "Skills",
    "checked",
    "ground",
    "unheard",
    "was_heard",
]
