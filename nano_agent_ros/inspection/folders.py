"""Where golden samples and reports lie when nobody says where."""

from __future__ import annotations

import os
from pathlib import Path


def golden_folder(golden_dir: str = "") -> Path:
    """`golden_dir`, or `golden` in the package's folder under $XDG_DATA_HOME (~/.local/share)."""
    if golden_dir:
        return Path(golden_dir).expanduser()
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "nano_agent_ros" / "golden"


def report_folder(store_dir: str = "", namespace: str = "") -> Path:
    """`store_dir`, or a folder of the namespace under $XDG_STATE_HOME (~/.local/state)."""
    return _state("reports", store_dir, namespace)


def record_folder(record_dir: str = "", namespace: str = "") -> Path:
    """`record_dir`, or a folder of the namespace under $XDG_STATE_HOME (~/.local/state)."""
    return _state("records", record_dir, namespace)


def _state(kind: str, given: str, namespace: str) -> Path:
    if given:
        return Path(given).expanduser()
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "nano_agent_ros" / kind / (namespace.strip("/").replace("/", ".") or "default")
