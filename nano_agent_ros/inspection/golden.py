"""Golden samples: pictures of how each location ought to look, in a folder for each."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nano_agent_ros.errors import ConfigError
from nano_agent_ros.inspection.images import Frame, ImageError, from_compressed, to_file

SUFFIXES = (".png", ".jpg", ".jpeg")
MASK = "mask.png"
MAX_SAMPLES = 12
_ID = re.compile(r"[a-z0-9][a-z0-9_]*")


class Goldens:
    """The folder: `FOLDER/LOCATION/anything.png` (or .jpg), and perhaps `mask.png`, black where nothing is looked at.

    A picture differs where it differs from every golden sample of its place, so several samples of the good (with
    the gate open, with it closed) allow for what may vary.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist yet."""
        self.folder = folder

    def locations(self) -> tuple[str, ...]:
        """Ids of the locations that have a sample."""
        if not self.folder.is_dir():
            return ()
        found = (path.name for path in sorted(self.folder.iterdir()) if path.is_dir() and _ID.fullmatch(path.name))
        return tuple(location for location in found if self.paths(location))

    def paths(self, location: str) -> tuple[Path, ...]:
        """The samples of a location, oldest name first."""
        folder = self._of(location)
        if not folder.is_dir():
            return ()
        return tuple(p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.name != MASK)

    def load(self, location: str) -> tuple[Frame, ...]:
        """The pictures of a location, none if it has none; raises ConfigError naming a file that is no picture."""
        paths = self.paths(location)
        if len(paths) > MAX_SAMPLES:
            raise ConfigError(f"{self._of(location)}: {len(paths)} golden samples, at most {MAX_SAMPLES} are compared")
        return tuple(read_picture(path) for path in paths)

    def mask(self, location: str) -> Frame | None:
        """The picture that is black where nothing is looked at; None without one."""
        path = self._of(location) / MASK
        return read_picture(path) if path.is_file() else None

    def add(self, location: str, frame: Frame) -> Path:
        """Keep a picture as a golden sample; raises ConfigError if there are too many or it cannot be written."""
        paths, folder = self.paths(location), self._of(location)
        if len(paths) >= MAX_SAMPLES:
            raise ConfigError(f"{folder} holds {len(paths)} golden samples already; delete one first")
        numbers = [int(p.stem) for p in paths if p.stem.isdigit()]
        path = folder / f"{max(numbers, default=0) + 1:03d}.png"
        temporary = path.with_name(f".{path.name}.new")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(to_file(frame, ".png"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ConfigError(f"cannot write {path} ({error.strerror})") from error
        return path

    def _of(self, location: str) -> Path:
        if not _ID.fullmatch(location):
            raise ConfigError(f"'{location}' is no location id; write it as in the site file, such as rack_7")
        return self.folder / location


def read_picture(path: Path) -> Frame:
    """A JPEG or PNG file as a frame; raises ConfigError naming it."""
    try:
        return from_compressed(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ImageError as error:
        raise ConfigError(f"{path}: {error}") from None
