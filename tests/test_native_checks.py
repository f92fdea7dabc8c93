"""The native code by itself: every kernel set and the C interface over random shapes, under sanitizers, and for Arm.

The program is tests/native; its seed is random and printed, NANO_CHECK_SEED=n sets it. Builds are kept in
build/checks under a digest of the sources.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILDS = ROOT / "build" / "checks"
SOURCES = ("nano_agent_ros/engine/native", "tests/native", "cmake")
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # cmake and ninja are there
TOOLCHAIN = ROOT / "cmake" / "aarch64-linux-gnu.cmake"
ARM_SYSROOT = Path("/usr/aarch64-linux-gnu")


def tool(name: str) -> str | None:
    return shutil.which(name, path=PATH)


def build(name: str, *definitions: str) -> Path:
    """Compile the check program as `name`, if the sources have changed since; returns it."""
    digest = hashlib.sha256(" ".join(definitions).encode())
    for folder in SOURCES:
        for path in sorted((ROOT / folder).iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
    folder = BUILDS / f"{name}-{digest.hexdigest()[:16]}"
    program = folder / "check_native"
    if not program.is_file():
        for old in BUILDS.glob(f"{name}-*"):
            shutil.rmtree(old)
        run(["cmake", "-G", "Ninja", "-S", str(ROOT / "tests" / "native"), "-B", str(folder), *definitions])
        run(["cmake", "--build", str(folder), "--parallel", "2"])
    return program


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, text=True, env={**os.environ, "PATH": PATH, **environment}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout


def seed() -> str:
    return os.environ.get("NANO_CHECK_SEED", str(secrets.randbits(32)))


needs_tools = pytest.mark.skipif(
    not (tool("cmake") and tool("ninja") and (tool("c++") or tool("g++"))),
    reason="cmake, ninja and a C++ compiler are needed to build tests/native",
)


@needs_tools
def test_no_memory_error_nor_undefined_behaviour_over_random_shapes_and_damaged_input():
    program = build("address", "-DSANITIZE=address,undefined", "-DCMAKE_BUILD_TYPE=")
    output = run([str(program), seed(), "6"], UBSAN_OPTIONS="print_stacktrace=1")
    assert "damage is refused" in output


@needs_tools
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the thread sanitizer is tried on x86-64 only")
def test_no_data_race_between_threads_of_the_pool_nor_between_callers():
    program = build("thread", "-DSANITIZE=thread", "-DCMAKE_BUILD_TYPE=")
    output = run([str(program), seed(), "4"], TSAN_OPTIONS="halt_on_error=1")
    assert "every item was done once" in output and "damage is refused" in output


@needs_tools
def test_no_warning_from_the_compiler():
    """-Wall -Wextra -Wconversion -Werror; the sets of the processor at full optimization against the portable one."""
    output = run([str(build("plain", "-DCHECK_WERROR=ON")), seed(), "20"])
    assert "damage is refused" in output


@needs_tools
@pytest.mark.skipif(platform.machine() != "x86_64", reason="cross-compilation is set up for x86-64 hosts")
@pytest.mark.skipif(
    not (tool("aarch64-linux-gnu-g++") and tool("qemu-aarch64")),
    reason="apt-get install g++-aarch64-linux-gnu qemu-user, to build for Arm and run that here",
)
def test_the_arm_kernels_and_engine_do_the_same_under_an_emulator():
    program = build("arm", f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}", "-DCHECK_WERROR=ON")
    emulator = ["qemu-aarch64", "-L", str(ARM_SYSROOT), "-cpu"]
    assert "set neon equal" in run([*emulator, "max", str(program), seed(), "2"])
    without_dot_products = run([*emulator, "cortex-a57", str(program), seed(), "1"])
    assert "set neon" not in without_dot_products
