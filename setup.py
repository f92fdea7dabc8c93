"""What pip runs: builds CMakeLists.txt over the ROS 2 wheels and packs what CMake installs (see docs/packaging.md)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

from distutils.command.install_data import install_data  # isort: skip  (setuptools provides it)

ROOT = Path(__file__).resolve().parent
PACKAGE = "nano_agent_ros"
PYTHON_DIR = "python"  # where in the staging folder CMake lays the Python package


def ros_wheels_prefix() -> Path | None:
    """The environment that the ROS 2 wheels are in (pip's build environment, usually); None without such wheels."""
    spec = importlib.util.find_spec("rosidl_cmake") or importlib.util.find_spec("ament_package")
    if spec is None or spec.origin is None:
        return None
    for folder in Path(spec.origin).parents:
        if (folder / "share" / "ament_index").is_dir() and (folder / "share" / "rosidl_cmake").is_dir():
            return folder
    return None


def cmake_build(build: Path, stage: Path) -> None:
    """Configure, build and install CMakeLists.txt into `stage`; raises SystemExit that says what is missing."""
    prefix = ros_wheels_prefix()
    if prefix is None and not os.environ.get("AMENT_PREFIX_PATH"):
        raise SystemExit(
            "nano_agent_ros: no ROS 2 to build the messages with. Let pip build in its own environment (leave out "
            "--no-build-isolation), or install requirements/ros-kilted.txt and build.txt, or source a ROS 2 set-up."
        )
    if shutil.which("cmake") is None:
        raise SystemExit("nano_agent_ros: cmake is missing; install it (apt-get install cmake, or pip install cmake)")

    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": str(stage),
        "PYTHON_INSTALL_DIR": PYTHON_DIR,
        "Python3_EXECUTABLE": sys.executable,
        "Python3_FIND_VIRTUALENV": "ONLY",
        "BUILD_TESTING": "OFF",
    }
    if prefix is not None:
        options["CMAKE_PROJECT_INCLUDE"] = str(ROOT / "cmake" / "ros_wheels.cmake")
        options["ROS_WHEELS_PREFIX"] = str(prefix)
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), *generator, *(f"-D{k}={v}" for k, v in options.items())]

    # pip's build environment has another name each time, and a cache that names the last one cannot be used again.
    asked = build / "configured_with.txt"
    if not (asked.is_file() and asked.read_text() == "\n".join(configure)):
        shutil.rmtree(build, ignore_errors=True)
    build.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(stage, ignore_errors=True)
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
    compile_ = ["cmake", "--build", str(build), "--parallel", jobs]
    for command in (configure, compile_, ["cmake", "--install", str(build)]):
        print("+", " ".join(command), flush=True)
        if subprocess.run(command).returncode != 0:
            raise SystemExit(f"nano_agent_ros: this command failed, see its output above:\n  {' '.join(command)}")
    asked.write_text("\n".join(configure))


def files_below(folder: Path) -> list[Path]:
    """Paths of all files below `folder`, relative to it, without Python's caches."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if "__pycache__" not in path.parts)


def copy(source: Path, target: Path) -> None:
    """Put a new file in the target's place: a running process may have the old one mapped."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(target.name + ".new")
    shutil.copy2(source, new)
    os.replace(new, target)


class CMakeBuild(build_ext):
    """Runs CMake and takes up what it installs as Python package."""

    @property
    def build_dir(self) -> Path:
        """Kept between editable installs, which setuptools builds in a new temporary folder each time."""
        return ROOT / "build" / "editable" if self.editable_mode else Path(self.build_temp).resolve()

    @property
    def stage(self) -> Path:
        return self.build_dir / "stage"

    def run(self) -> None:
        cmake_build(self.build_dir / "cmake", self.stage)
        if self.editable_mode:
            install = self.get_finalized_command("install")
            self.copy_into_checkout(Path(install.install_lib))
            self.copy_data(Path(install.install_data))  # setuptools leaves data out of editable installs
        else:
            self.copy_package(Path(self.build_lib))

    def copy_package(self, library: Path) -> None:
        for file in files_below(self.stage / PYTHON_DIR / PACKAGE):
            copy(self.stage / PYTHON_DIR / PACKAGE / file, library / PACKAGE / file)

    def copy_into_checkout(self, library: Path) -> None:
        """The checkout stays the package. Its path is extended by `library`, which gets the generated messages only;
        the engine goes beside its Python files."""
        for file in files_below(self.stage / PYTHON_DIR / PACKAGE):
            if file.parent.name == "engine" and file.suffix == ".so":
                copy(self.stage / PYTHON_DIR / PACKAGE / file, ROOT / PACKAGE / file)
            elif not (ROOT / PACKAGE / file).exists():
                copy(self.stage / PYTHON_DIR / PACKAGE / file, library / PACKAGE / file)

    def copy_data(self, prefix: Path) -> list[str]:
        """lib/, share/ and include/ go to the environment's prefix, as the ros-* wheels lay theirs."""
        files = [f for f in files_below(self.stage) if f.parts[0] != PYTHON_DIR and "parent_prefix_path" not in f.parts]
        for file in files:
            copy(self.stage / file, prefix / file)
        return [str(prefix / file) for file in files]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class InstallData(install_data):
    def run(self) -> None:
        self.run_command("build_ext")
        self.outfiles += self.get_finalized_command("build_ext").copy_data(Path(self.install_dir))


setup(
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_dir={"": "."},  # so that an editable install is one line of a .pth file
    # No compiler of setuptools ever sees it: it makes the wheel one of this platform and this Python.
    ext_modules=[Extension(f"{PACKAGE}.cmake", sources=[])],
    data_files=[("share", [])],
    cmdclass={"build_ext": CMakeBuild, "install_data": InstallData},
)
