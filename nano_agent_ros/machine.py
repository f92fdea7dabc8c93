"""How the computer is: temperatures, memory, power mode. From jtop on a Jetson, else from Linux itself. No ROS."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

OFFLINE_C = -200.0  # jtop gives -256 for a sensor that is switched off


@dataclass(frozen=True)
class Reading:
    """Degrees Celsius by sensor, bytes of memory; what is not known is empty or None. `source`: who says so."""

    source: str
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    memory_total: int | None = None
    memory_used: int | None = None
    power_mode: str = ""
    power_w: float | None = None
    gpu_load_percent: float | None = None

    @property
    def hottest(self) -> tuple[str, float] | None:
        """The hottest sensor."""
        return max(self.temperatures_c.items(), key=lambda item: item[1], default=None)

    @property
    def memory_percent(self) -> float | None:
        """How much of the memory is in use."""
        if not self.memory_total or self.memory_used is None:
            return None
        return 100.0 * self.memory_used / self.memory_total


class Machine(Protocol):
    """Something that can be read."""

    def read(self) -> Reading:
        """How it is now."""
        ...

    def close(self) -> None:
        """Read no more."""
        ...


class Linux:
    """The kernel's own figures: /sys/class/thermal and /proc/meminfo. A container may see fewer, or none."""

    def __init__(self, root: Path = Path("/")) -> None:
        """`root`: where sys and proc are."""
        self._zones = root / "sys" / "class" / "thermal"
        self._memory = root / "proc" / "meminfo"

    def read(self) -> Reading:
        """Read the files; what there is not, or cannot be read just now, is left out."""
        memory = _meminfo(self._memory)
        total, free = memory.get("MemTotal"), memory.get("MemAvailable")
        used = total - free if total is not None and free is not None else None
        return Reading("linux", _zones(self._zones), total, used)

    def close(self) -> None:
        """Nothing is open."""


class Jetson:
    """jetson-stats (https://rnext.it/jetson_stats): needs its package and its running service."""

    def __init__(self) -> None:
        """Connect; raises ImportError without the package, and jtop's own JtopException without the service."""
        self._jtop: Any = importlib.import_module("jtop").jtop(interval=1.0)
        self._jtop.start()

    def read(self) -> Reading:
        """The figures that the service sent last."""
        j = self._jtop
        sensors = {str(name): float(sensor["temp"]) for name, sensor in j.temperature.items()}
        ram = j.memory["RAM"]  # in kilobytes
        loads = [gpu["status"]["load"] for gpu in j.gpu.values()]
        return Reading(
            "jtop",
            {name: value for name, value in sensors.items() if value > OFFLINE_C},
            int(ram["tot"]) * 1024,
            int(ram["used"]) * 1024,
            str(j.nvpmodel.name) if j.nvpmodel is not None else "",
            float(j.power["tot"]["power"]) / 1000.0 if j.power else None,
            float(max(loads)) if loads else None,
        )

    def close(self) -> None:
        """Disconnect."""
        self._jtop.close()


def open_machine() -> tuple[Machine, str]:
    """This computer, and why jtop is not used: empty if it is, or not installed."""
    try:
        return Jetson(), ""
    except ImportError:
        return Linux(), ""
    except Exception as error:  # whatever keeps jtop from its service, the robot works
        return Linux(), " ".join(str(error).split())


def _zones(folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for zone in sorted(folder.glob("thermal_zone*")):
        try:
            value = int((zone / "temp").read_text()) / 1000.0
            name = (zone / "type").read_text().strip()
        except (OSError, ValueError):  # a sensor that is off cannot be read
            continue
        found[name if name not in found else f"{name} {zone.name.removeprefix('thermal_zone')}"] = value
    return found


def _meminfo(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key: int(rest.split()[0]) * 1024 for key, rest in pairs if rest.split()[:1] and rest.split()[0].isdigit()}
