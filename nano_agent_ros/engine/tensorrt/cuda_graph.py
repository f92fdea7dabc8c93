"""CUDA graphs through the driver's C interface: pycuda has streams, but no stream capture.

Names and signatures: CUDA Driver API reference, Stream Management and Graph Management, of CUDA 11.4 or newer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from nano_agent_ros.engine.base import EngineError

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on using CUDA


class CudaGraph:
    """A recorded piece of work on one stream; addresses and shapes are those of the time of recording."""

    def __init__(self, stream: int, enqueue: Callable[[], None]):
        """Record what `enqueue` puts on the stream of that handle; nothing runs yet. Raises EngineError."""
        self._driver = _driver()
        self._stream = ctypes.c_void_p(stream)
        graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_THREAD_LOCAL))
        try:
            enqueue()
        finally:
            self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        self._executable = ctypes.c_void_p()
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Put the recorded work on the stream."""
        self._call("cuGraphLaunch", self._executable, self._stream)

    def free(self) -> None:
        """Give the recording back to the driver."""
        self._call("cuGraphExecDestroy", self._executable)

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._driver, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
            raise EngineError(f"CUDA: {function} failed ({status}: {(text.value or b'').decode()})")


def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as e:
        raise EngineError(f"the NVIDIA driver's libcuda.so.1 cannot be loaded ({e})") from e
