"""OpenCV, which only the inspector needs: looked for when it is used, and named when it is not there."""

from __future__ import annotations

from typing import Any

from nano_agent_ros.errors import ConfigError

HOW = "inspection needs OpenCV: pip install 'nano_agent_ros[inspect]' (or opencv-python-headless, or python3-opencv)"


def opencv() -> Any:
    """The module `cv2`, on one thread: the other processors belong to the model. Raises ConfigError without it."""
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(f"{HOW}: {error}") from None
    cv2.setNumThreads(1)
    return cv2
