"""Host memory in the place of a GPU's, so that runtime.py's bookkeeping runs where there is no GPU.

Only what pycuda and TensorRT would do to memory: allocations, copies with pitches, an execution context that reads its
inputs from the addresses it was given, computes the graph by NumPy, and writes the outputs to theirs. Queues are
immediate. What it cannot show is that the real interfaces behave so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np

from nano_agent_ros.engine.tensorrt import network
from nano_agent_ros.engine.tensorrt.bindings import Binding, Bindings
from nano_agent_ros.engine.tensorrt.numpy_ops import NumpyOps
from nano_agent_ros.engine.tensorrt.runtime import Gpu


class Allocation:
    def __init__(self, nbytes: int):
        self.memory = (ctypes.c_char * nbytes)()
        ctypes.memset(self.memory, 0xFF, nbytes)  # NaN, whatever is read before it was written

    def __int__(self) -> int:
        return ctypes.addressof(self.memory)

    def free(self) -> None:
        assert self.memory is not None
        self.memory = None


class Memcpy2D:
    src_x_in_bytes = dst_x_in_bytes = src_y = dst_y = 0

    def set_src_device(self, source: Allocation) -> None:
        self.source = source

    def set_dst_device(self, target: Allocation) -> None:
        self.target = target

    def __call__(self, stream: object) -> None:
        assert self.src_x_in_bytes + self.width_in_bytes <= self.src_pitch
        assert self.dst_x_in_bytes + self.width_in_bytes <= self.dst_pitch
        for row in range(self.height):
            ctypes.memmove(
                int(self.target) + row * self.dst_pitch + self.dst_x_in_bytes,
                int(self.source) + row * self.src_pitch + self.src_x_in_bytes,
                self.width_in_bytes,
            )


class Context:
    """`create_execution_context` of an engine that computes one of the two graphs."""

    def __init__(self, engine: Engine):
        self.engine, self.shapes, self.addresses, self.profile = engine, {}, {}, None

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Run with the shapes and addresses of now."""
        self.frozen()()
        return True

    def frozen(self) -> Callable[[], None]:
        shapes, addresses = dict(self.shapes), dict(self.addresses)

        def run() -> None:
            inputs = {b.name: self._view(b, shapes.get(b.name, b.shape), addresses) for b in self.engine.inputs}
            outputs = self.engine.graph(self.engine.ops, self.engine.bindings, {k: v.copy() for k, v in inputs.items()})
            for b in self.engine.outputs:
                values = np.ascontiguousarray(outputs[b.name])
                ctypes.memmove(addresses[b.name], values.ctypes.data, values.nbytes)

        return run

    def _view(self, binding: Binding, shape: tuple[int, ...], addresses: dict[str, int]) -> np.ndarray:
        assert -1 not in shape, f"no shape was set for {binding.name}"
        dtype = np.dtype("float16" if binding.dtype == "half" else binding.dtype)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_char * nbytes).from_address(addresses[binding.name])
        return np.frombuffer(memory, dtype).reshape(shape)


class Engine:
    def __init__(self, bindings: Bindings, ops: NumpyOps, step: bool):
        self.bindings, self.ops = bindings, ops
        self.graph = network.step if step else network.replay
        self.inputs = bindings.step_inputs() if step else bindings.replay_inputs()
        self.outputs = bindings.step_outputs() if step else bindings.next_state()
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, i: int) -> str:
        return (*self.inputs, *self.outputs)[i].name

    def create_execution_context(self) -> Context:
        return Context(self)


class Recorded:
    """Stands for CudaGraph: what was enqueued is kept with the addresses it had, and runs when launched."""

    def __init__(self, stream: int, enqueue: Callable[[], None]):
        held = []
        original = Context.execute_async_v3
        Context.execute_async_v3 = lambda context, handle: held.append(context.frozen()) or True
        try:
            enqueue()
        finally:
            Context.execute_async_v3 = original
        (self.run,) = held
        self.launches = 0

    def launch(self) -> None:
        self.launches += 1
        self.run()

    def free(self) -> None:
        self.run = None


def host_gpu() -> Gpu:
    def copy(target: int, source: int, nbytes: int) -> None:
        ctypes.memmove(target, source, nbytes)

    driver = SimpleNamespace(
        Error=OSError,
        Stream=lambda: SimpleNamespace(handle=7, synchronize=lambda: None),
        Memcpy2D=Memcpy2D,
        mem_alloc=Allocation,
        pagelocked_empty=np.empty,
        memset_d8_async=lambda a, value, count, stream: ctypes.memset(int(a), value, count),
        memcpy_htod_async=lambda a, values, stream: copy(int(a), values.ctypes.data, values.nbytes),
        memcpy_dtoh_async=lambda values, a, stream: copy(values.ctypes.data, int(a), values.nbytes),
        memcpy_dtod_async=lambda to, a, nbytes, stream: copy(int(to), int(a), nbytes),
        memcpy_htod=lambda a, values: copy(int(a), values.ctypes.data, values.nbytes),
        memcpy_dtoh=lambda values, a: copy(values.ctypes.data, int(a), values.nbytes),
    )
    context = SimpleNamespace(push=lambda: None, pop=lambda: None)
    return Gpu(driver, context, ThreadPoolExecutor(1), "host memory", "sm00")


def host_tensorrt(bindings: Bindings, ops: NumpyOps) -> SimpleNamespace:
    """What runtime.py asks of versions.TensorRT; the plans are the names of the graphs."""
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine(bindings, ops, plan == b"step"))
    logger = SimpleNamespace(WARNING=1)
    module = SimpleNamespace(Runtime=lambda log: runtime, Logger=lambda level=1: logger)
    module.Logger.WARNING = 1
    return SimpleNamespace(module=module, name="host", capturable=lambda context, stream: True)
