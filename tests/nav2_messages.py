"""Interfaces of other packages for tests: those that are installed, else generated from PACKAGE_workspace/ and kept."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CMAKE = HERE.parent / "cmake" / "ros_wheels.cmake"


def provide(package: str = "nav2_msgs") -> None:
    """Make `import PACKAGE` work; raises RuntimeError with the compiler's last words if that fails."""
    if importlib.util.find_spec(package) is not None:
        return
    sys.path.append(str(_build(package) / "python"))
    importlib.invalidate_caches()


def _build(package: str) -> Path:
    """The folder of the generated package, in build/; named after what it is made of, so that it is never stale."""
    workspace = HERE / f"{package}_workspace"
    sources = sorted(path for path in workspace.rglob("*") if path.is_file())
    made_of = hashlib.sha256("\n".join([sys.version, sys.prefix, *(p.read_text() for p in sources)]).encode())
    done = HERE.parent / "build" / f"{package}_{made_of.hexdigest()[:12]}"
    if done.is_dir():
        return done
    scratch = done.with_name(f"{done.name}.{os.getpid()}")
    options = {
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_C_FLAGS": "-O0",
        "CMAKE_CXX_FLAGS": "-O0",
        "CMAKE_INSTALL_PREFIX": str(scratch / "install"),
        "CMAKE_INSTALL_RPATH": "$ORIGIN;$ORIGIN/../../lib",
        "PYTHON_INSTALL_DIR": "python",
        "Python3_EXECUTABLE": sys.executable,
        "Python3_FIND_VIRTUALENV": "ONLY",
        "BUILD_TESTING": "OFF",
    }
    if (Path(sys.prefix) / "share" / "rosidl_cmake").is_dir():
        options |= {"CMAKE_PROJECT_INCLUDE": str(CMAKE), "ROS_WHEELS_PREFIX": sys.prefix}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=path) else []
    build = ["cmake", "-S", str(workspace), "-B", str(scratch / "build"), *generator]
    for command in (
        [*build, *(f"-D{key}={value}" for key, value in options.items())],
        ["cmake", "--build", str(scratch / "build"), "--parallel", "2"],
        ["cmake", "--install", str(scratch / "build")],
    ):
        ran = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        if ran.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:3])} failed:\n{(ran.stdout + ran.stderr)[-3000:]}")
    try:
        (scratch / "install").rename(done)
    except OSError:
        assert done.is_dir()  # another run was faster
    shutil.rmtree(scratch, ignore_errors=True)
    return done


if __name__ == "__main__":
    provide()
    print(importlib.import_module("nav2_msgs.action").NavigateToPose)
