"""Finds what ships beside the code: config/, models/ and the demo's sound, in a checkout or an installed share/."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from nano_agent_ros.errors import ConfigError

PACKAGE = "nano_agent_ros"


def share_dirs() -> Iterator[Path]:
    """Folders that may hold config/ and models/: the checkout, the environment's share/, then each ROS prefix."""
    yield Path(__file__).resolve().parent.parent
    prefixes = [sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))]
    for prefix in prefixes:
        yield Path(prefix) / "share" / PACKAGE
    yield from (parent / "share" / PACKAGE for parent in Path(__file__).resolve().parents[1:6])


def find(relative: str) -> Path:
    """Path of a shipped file or folder such as `config/skills.yaml`; raises ConfigError if it is not installed."""
    for base in share_dirs():
        if (base / relative).exists():
            return base / relative
    raise ConfigError(f"{relative} is not installed with {PACKAGE}; reinstall the package or give the path yourself")


def default_skills() -> Path:
    """The skills file that ships."""
    return find("config/skills.yaml")


def default_model() -> Path:
    """The model that ships."""
    return find("models/warehouse")


def site_path(name_or_path: str | Path) -> Path:
    """A site file from its path, or from the name of one that ships (`warehouse`)."""
    path = Path(name_or_path).expanduser()
    if path.suffix in {".yaml", ".yml"} or path.exists():
        return path
    try:
        return find(f"config/sites/{name_or_path}.yaml")
    except ConfigError:
        shipped = sorted(p.stem for p in find("config/sites").glob("*.yaml"))
        raise ConfigError(
            f"site '{name_or_path}' is neither a file nor a shipped site ({', '.join(shipped)}); give a path to a .yaml"
        ) from None


def read_yaml(path: Path) -> object:
    """Parse one YAML file; raises ConfigError naming the file and the line."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
