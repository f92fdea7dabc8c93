"""All that differs between TensorRT 10.3 (JetPack 6.2), 10.16 (JetPack 7.2), 11 and TensorRT for RTX.

|                              | 10.3     | 10.16    | 11             | RTX 1.x                      |
|------------------------------|----------|----------|----------------|------------------------------|
| Python module                | tensorrt | tensorrt | tensorrt       | tensorrt_rtx                 |
| strong typing                | a flag   | a flag   | always         | a flag                       |
| builds without a GPU         | no       | no       | no             | yes, for several at once     |
| INT8 in groups               | no       | unknown  | yes            | yes                          |
| timing cache                 | yes      | yes      | yes            | no use (would ask for a GPU) |
| CUDA graph may be captured   | always   | always   | always         | once kernels are specialised |
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nano_agent_ros.engine.base import EngineError

PACKAGES = {
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),  # the first only re-exports the second
}
_NO_INT8_GROUPS_BEFORE = (10, 16)


@dataclass(frozen=True)
class TensorRT:
    """One installed TensorRT; `package` is one of `PACKAGES`, `module` the Python module."""

    package: str
    module: Any
    version: str

    @property
    def name(self) -> str:
        """Package and version, as they stand in file names and messages."""
        return f"{self.package}-{self.version}"

    @property
    def portable(self) -> bool:
        """Whether it builds without a GPU, for all of a kind or for several that are named."""
        return self.package == "tensorrt_rtx"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(n) for n in self.version.split(".")[:3] if n.isdigit())

    @property
    def int8_groups(self) -> bool:
        """Whether INT8 weights may have a scale per group of inputs; 10.x says so of INT4 alone."""
        return self.portable or self.numbers >= _NO_INT8_GROUPS_BEFORE

    def create_network(self, builder: Any) -> Any:
        """An empty strongly typed network."""
        flag = getattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return builder.create_network(0 if flag is None else 1 << int(flag))

    def configure(self, config: Any, gpus: Sequence[str]) -> None:
        """Set what every build needs: true float32 products, and the GPUs to build for (RTX only).

        Raises EngineError for GPUs that the package cannot build for.
        """
        config.clear_flag(self.module.BuilderFlag.TF32)  # the scan's sums over time need all bits of float32
        if not gpus:
            return
        if not self.portable:
            raise EngineError(
                f"{self.name} builds for the GPU of this machine only; leave --gpu out, or install tensorrt-rtx"
            )
        known = self.module.ComputeCapability.__members__
        wanted = [g.upper() for g in gpus]
        if unknown := [g for g in wanted if g not in known or g == "NONE"]:
            raise EngineError(f"--gpu {unknown[0]}: {self.name} knows {', '.join(n for n in known if n != 'NONE')}")
        config.num_compute_capabilities = len(wanted)
        for i, name in enumerate(wanted):
            config.set_compute_capability(known[name], i)

    def timing_cache(self, config: Any, stored: bytes) -> Callable[[], bytes]:
        """Give the builder the tactics timed before; return a function that gives those known after the build."""
        if self.portable:
            return bytes
        config.set_timing_cache(config.create_timing_cache(stored), ignore_mismatch=False)
        return lambda: bytes(config.get_timing_cache().serialize())

    def watch(self, config: Any, monitor: Any) -> None:
        """Report the build's phases to `monitor`, which has the methods of IProgressMonitor."""
        trt = self.module
        if not hasattr(trt, "IProgressMonitor"):
            return

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                monitor.phase_start(phase_name, parent_phase, num_steps)

            def phase_finish(self, phase_name: str) -> None:
                monitor.phase_finish(phase_name)

            def step_complete(self, phase_name: str, step: int) -> bool:
                monitor.step_complete(phase_name, step)
                return True

        config.progress_monitor = Monitor()

    def capturable(self, context: Any, stream: int) -> bool:
        """Whether a CUDA graph can be captured of the context as it stands."""
        ask = getattr(context, "is_stream_capturable", None)
        return True if ask is None else bool(ask(stream))


def load(package: str | None = None) -> TensorRT:
    """Import TensorRT: the package of that name, or the first of `PACKAGES` that is installed. Raises EngineError."""
    if package is not None and package not in PACKAGES:
        raise EngineError(f"there is no TensorRT package {package!r}; known are {', '.join(PACKAGES)}")
    reasons = []
    for name in [package] if package else PACKAGES:
        for candidate in PACKAGES[name]:
            try:
                module = importlib.import_module(candidate)
            except ImportError as e:
                reasons.append(str(e))
            else:
                return TensorRT(name, module, str(module.__version__))
    raise EngineError(f"TensorRT cannot be imported ({'; '.join(reasons)}). {how_to_install()}")


def how_to_install() -> str:
    """What to install on this machine."""
    if platform.machine() == "aarch64":
        return (
            "On a Jetson it comes with JetPack: sudo apt install nvidia-jetpack, a virtual environment made with "
            "--system-site-packages, and pip install pycuda"
        )
    return "On x86-64: pip install -r requirements/tensorrt-x86.txt, or requirements/tensorrt-rtx.txt for RTX GPUs"
