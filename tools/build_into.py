"""Build the messages and the engine, and install this checkout, editable, into the environment that runs this file.

Shows how far the compiler is; the whole output goes to build/build.log and its end is shown if the build fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")  # Ninja's
LOG = ROOT / "build" / "build.log"


def main() -> int:
    """Run pip; returns its exit code."""
    LOG.parent.mkdir(exist_ok=True)
    print("Building the messages and the engine (a minute the first time, seconds later)", flush=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # cmake and ninja are there
    pip = [sys.executable, "-m", "pip", "install", "-v", "--no-build-isolation", "--no-deps"]
    shown = 0
    with (
        LOG.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            [*pip, "--editable", str(ROOT)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PATH": path},
        ) as build,
    ):
        assert build.stdout is not None
        for line in build.stdout:
            log.write(line)
            if step := STEP.match(line):
                percent = 100 * int(step[1]) // int(step[2])
                if percent >= shown + 20 or percent < shown:
                    shown = percent
                    print(f"  compiled {step[1]} of {step[2]}", flush=True)
    if build.returncode != 0:
        lines = LOG.read_text(encoding="utf-8").splitlines()
        errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
        print("\n".join(["The build failed. What it says of errors:", *errors[:20], f"The whole output: {LOG}"]))
    return build.returncode


if __name__ == "__main__":
    sys.exit(main())
