"""Spoken commands to typed robot actions, on the robot's own computer."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"
