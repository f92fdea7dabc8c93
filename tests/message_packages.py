"""Interfaces of other packages for tests: those that are installed, else generated from interfaces/PACKAGE/, kept."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
INTERFACES = HERE / "interfaces"
CMAKE = HERE.parent / "cmake" / "ros_wheels.cmake"
USES = re.compile(r"^(\w+)/\w+(?:\[\d*\])? ", re.MULTILINE)  # the package of a field's type
MANIFEST = """<?xml version="1.0"?>
<package format="3">
  <name>{package}</name>
  <version>0.0.0</version>
  <description>Those of the interfaces of {package} that a test needs.</description>
  <maintainer email="maintainers@nano-agent-ros.invalid">nano_agent_ros maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  {depends}
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def provide(package: str) -> None:
    """Make `import PACKAGE` work; raises RuntimeError with the compiler's last words if that fails."""
    if importlib.util.find_spec(package) is not None:
        return
    sys.path.append(str(_build(package) / "python"))
    importlib.invalidate_caches()


def _build(package: str) -> Path:
    """The folder of the generated package, in build/; named after what it is made of, so that it is never stale."""
    sources = sorted(path for path in (INTERFACES / package).rglob("*") if path.is_file())
    content = [p.read_text() for p in (INTERFACES / "CMakeLists.txt", *sources)]
    made_of = hashlib.sha256("\n".join([sys.version, sys.prefix, MANIFEST, *content]).encode())
    done = HERE.parent / "build" / f"{package}_{made_of.hexdigest()[:12]}"
    if done.is_dir():
        return done
    scratch = done.with_name(f"{done.name}.{os.getpid()}")
    workspace = scratch / "source"
    shutil.copytree(INTERFACES / package, workspace)
    shutil.copy(INTERFACES / "CMakeLists.txt", workspace)
    uses = {name for text in content[1:] for name in USES.findall(text)} - {package}
    uses |= {"action_msgs"} if (workspace / "action").is_dir() else set()
    depends = "\n  ".join(f"<depend>{name}</depend>" for name in sorted(uses))
    (workspace / "package.xml").write_text(MANIFEST.format(package=package, depends=depends))
    options = {
        "PACKAGE": package,
        "DEPENDENCIES": ";".join(sorted(uses)),
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
    for name in sys.argv[1:]:
        provide(name)
        print(importlib.import_module(name).__path__)
