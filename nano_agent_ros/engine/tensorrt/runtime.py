"""The engine's device on the GPU: TensorRT execution contexts, pycuda buffers and streams, CUDA graphs for decoding.

All CUDA work happens on one thread of its own, so that any thread may use the engine: pycuda frees memory only on the
thread that its context belongs to, and the context is pushed for one job at a time because pycuda ends the process if
a thread finishes with one on its stack.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from nano_agent_ros.engine.base import EngineError

from .bindings import HIDDEN, LOGITS, POSITIONS, RING, ROWS, Binding, Bindings, following
from .build import DECODE, PREFILL, Plans
from .cuda_graph import CudaGraph
from .versions import TensorRT, how_to_install

Result = TypeVar("Result")
_STREAMED = (HIDDEN, POSITIONS, RING, ROWS)
_CAPTURE_AFTER = 2  # plain runs of a side first: TensorRT sets up shapes and kernels in the first ones


@dataclass(frozen=True)
class Gpu:
    """One GPU with its thread. `driver` is pycuda.driver; `name` as in `nvidia-smi`, `capability` such as "sm87"."""

    driver: Any
    context: Any
    thread: ThreadPoolExecutor
    name: str
    capability: str

    def run(self, job: Callable[..., Result], *arguments: Any) -> Result:
        """Do a job on the GPU's thread, its context current, and wait for it. Raises EngineError for CUDA's errors."""
        return self.thread.submit(self._pushed, job, *arguments).result()

    def _pushed(self, job: Callable[..., Result], *arguments: Any) -> Result:
        self.context.push()
        try:
            return job(*arguments)
        except self.driver.Error as e:
            raise EngineError(f"CUDA on {self.name}: {e}; is another program using the GPU?") from e
        finally:
            self.context.pop()


def open_gpu() -> Gpu:
    """The GPU that CUDA_DEVICE names, else the first. Raises EngineError if pycuda or a GPU is missing."""
    try:
        import pycuda.driver as driver
    except ImportError as e:
        raise EngineError(f"pycuda cannot be imported ({e}). {how_to_install()}") from e
    thread = ThreadPoolExecutor(1, thread_name_prefix="nano-agent-gpu")

    def first() -> tuple[Any, str, str]:
        driver.init()
        device = driver.Device(int(os.environ.get("CUDA_DEVICE", "0")))
        major, minor = device.compute_capability()
        return device.retain_primary_context(), device.name(), f"sm{major}{minor}"

    try:
        context, name, capability = thread.submit(first).result()
    except (driver.Error, RuntimeError, ValueError) as e:
        thread.shutdown(wait=False)
        raise EngineError(f"there is no NVIDIA GPU that can be used here ({e}); use --engine native") from e
    return Gpu(driver, context, thread, name, capability)


@dataclass
class CudaMemory:
    """The tensors of one conversation: device allocations by the names of bindings.py."""

    sides: tuple[dict[str, Any], dict[str, Any]]
    ring: dict[str, Any]
    written: dict[str, Any]
    side: int = 0
    steps: int = 0  # tokens of the last step: the stride of its keys and values
    runs: list[int] = field(default_factory=lambda: [0, 0])
    graphs: dict[int, CudaGraph] = field(default_factory=dict)


class CudaDevice:
    """Implements `Device` on a GPU. A step of one token is a CUDA graph, one for each side of each memory."""

    def __init__(self, trt: TensorRT, gpu: Gpu, bindings: Bindings, plans: Plans):
        self._trt, self._gpu, self._bindings = trt, gpu, bindings
        gpu.run(self._open, plans)

    def _open(self, plans: Plans) -> None:
        driver, chunk = self._gpu.driver, self._bindings.ring_size.chunk
        self._stream = driver.Stream()
        self._runtime = self._trt.module.Runtime(self._trt.module.Logger(self._trt.module.Logger.WARNING))
        self._step_engine = self._load(plans.step)
        self._contexts = [self._context(self._step_engine, profile) for profile in (DECODE, PREFILL)]
        self._replay_engine = self._load(plans.replay) if plans.replay else None
        self._replay_context = self._context(self._replay_engine, 0) if self._replay_engine else None
        self._step_names = _names(self._step_engine)
        self._replay_names = _names(self._replay_engine) if self._replay_engine else ()
        self._inputs, self._staged = {}, {}
        for binding in self._bindings.step_inputs():
            if binding.name in _STREAMED:
                self._inputs[binding.name] = driver.mem_alloc(binding.nbytes(chunk))
                self._staged[binding.name] = driver.pagelocked_empty((binding.nbytes(chunk),), np.uint8)
        self._logits: dict[int, tuple[Any, np.ndarray]] = {}  # by rows: one, or as many as a step has

    def _load(self, plan: bytes) -> Any:
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"{self._trt.name} refuses the built engine; build it again: nano-agent build")
        return engine

    def _context(self, engine: Any, profile: int) -> Any:
        context = engine.create_execution_context()
        if context is None:
            raise EngineError("there is not enough GPU memory for the engine's work space; use a smaller --chunk")
        if not context.set_optimization_profile_async(profile, self._stream.handle):
            raise EngineError("the built engine lacks a profile; build it again: nano-agent build")
        self._stream.synchronize()
        return context

    def new_memory(self) -> CudaMemory:
        return self._gpu.run(self._new_memory)

    def _new_memory(self) -> CudaMemory:
        chunk, b = self._bindings.ring_size.chunk, self._bindings
        memory = CudaMemory(
            (self._zeros(b.state, 1), self._zeros(b.state, 1)),
            self._zeros(b.ring, 1),
            self._zeros((*b.recorded, *b.fresh), chunk),
        )
        owned = [*memory.sides[0].values(), *memory.sides[1].values(), *memory.ring.values(), *memory.written.values()]
        weakref.finalize(memory, _release, self._gpu, memory.graphs, owned)
        return memory

    def _zeros(self, bindings: tuple[Binding, ...], count: int) -> dict[str, Any]:
        allocations = {}
        for binding in bindings:
            nbytes = binding.nbytes(count)
            allocations[binding.name] = self._gpu.driver.mem_alloc(nbytes)
            self._gpu.driver.memset_d8_async(allocations[binding.name], 0, nbytes, self._stream)
        return allocations

    def flip(self, memory: CudaMemory) -> None:
        memory.side ^= 1

    def step(
        self,
        memory: CudaMemory,
        hidden: np.ndarray,
        positions: np.ndarray,
        ring_positions: np.ndarray,
        rows: np.ndarray,
    ) -> np.ndarray:
        streamed = {HIDDEN: hidden, POSITIONS: positions, RING: ring_positions, ROWS: rows}
        return self._gpu.run(self._step, memory, streamed)

    def _step(self, memory: CudaMemory, streamed: dict[str, np.ndarray]) -> np.ndarray:
        driver, rows = self._gpu.driver, len(streamed[ROWS])
        memory.steps = len(streamed[HIDDEN])
        for name, values in streamed.items():
            staged = self._staged[name][: values.nbytes]
            staged[:] = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
            driver.memcpy_htod_async(self._inputs[name], staged, self._stream)
        device_logits, host_logits = self._logits_of(rows)
        if memory.side in memory.graphs and memory.steps == rows == 1:
            memory.graphs[memory.side].launch()
        else:
            self._enqueue_step(memory, streamed, device_logits)
        driver.memcpy_dtoh_async(host_logits[:rows], device_logits, self._stream)
        self._stream.synchronize()
        return host_logits[:rows].copy()

    def _enqueue_step(self, memory: CudaMemory, streamed: dict[str, np.ndarray], logits: Any) -> None:
        decode = len(streamed[HIDDEN]) == len(streamed[ROWS]) == 1
        context = self._contexts[DECODE if decode else PREFILL]
        for name, values in streamed.items():
            if name in self._step_names:  # a network without attention has no use for the ring's positions
                _set(context.set_input_shape(name, values.shape), name)
        addresses = self._inputs | memory.sides[memory.side] | memory.ring | memory.written | {LOGITS: logits}
        _bind(context, self._step_names, addresses | self._next(memory))
        if not decode:
            self._execute(context)
            return
        memory.runs[memory.side] += 1
        ready = memory.runs[memory.side] > _CAPTURE_AFTER and self._trt.capturable(context, self._stream.handle)
        if not ready:
            self._execute(context)
            return
        graph = CudaGraph(self._stream.handle, lambda: self._execute(context))
        memory.graphs[memory.side] = graph
        graph.launch()

    def replay(self, memory: CudaMemory, count: int) -> None:
        self._gpu.run(self._replay, memory, count)

    def _replay(self, memory: CudaMemory, count: int) -> None:
        context = self._replay_context
        if context is None:
            return  # no Mamba layer, and what attention keeps is settled by the length alone
        staged = self._staged[POSITIONS][: 4 * count]
        staged.view(np.int32)[:] = np.arange(count)
        self._gpu.driver.memcpy_htod_async(self._inputs[POSITIONS], staged, self._stream)
        _set(context.set_input_shape(POSITIONS, (count,)), POSITIONS)
        for binding in self._bindings.recorded:
            _set(context.set_input_shape(binding.name, (count, *binding.shape[1:])), binding.name)
        recorded = {b.name: memory.written[b.name] for b in self._bindings.recorded}
        position = {POSITIONS: self._inputs[POSITIONS]}
        addresses = position | memory.sides[memory.side] | recorded | self._next(memory)
        _bind(context, self._replay_names, addresses)
        self._execute(context)
        self._stream.synchronize()

    def store(self, memory: CudaMemory, offset: int, slot: int, count: int) -> None:
        self._gpu.run(self._store, memory, offset, slot, count)

    def _store(self, memory: CudaMemory, offset: int, slot: int, count: int) -> None:
        """One strided copy a tensor: a row of the copy is one head's `count` tokens."""
        for cached, fresh in zip(self._bindings.ring, self._bindings.fresh, strict=True):
            heads, slots, width = cached.shape[0], cached.shape[1], 2 * cached.shape[2]
            copy = self._gpu.driver.Memcpy2D()
            copy.set_src_device(memory.written[fresh.name])
            copy.set_dst_device(memory.ring[cached.name])
            copy.src_x_in_bytes, copy.src_pitch = offset * width, memory.steps * width
            copy.dst_x_in_bytes, copy.dst_pitch = slot * width, slots * width
            copy.width_in_bytes, copy.height = count * width, heads
            copy(self._stream)

    def copy(self, source: CudaMemory, target: CudaMemory) -> None:
        self._gpu.run(self._copy, source, target)

    def _copy(self, source: CudaMemory, target: CudaMemory) -> None:
        b = self._bindings
        pairs = [(x, source.sides[source.side], target.sides[target.side]) for x in b.state]
        for binding, from_, to in [*pairs, *((x, source.ring, target.ring) for x in b.ring)]:
            self._gpu.driver.memcpy_dtod_async(to[binding.name], from_[binding.name], binding.nbytes(1), self._stream)
        self._stream.synchronize()

    def read(self, memory: CudaMemory, name: str) -> np.ndarray:
        return self._gpu.run(self._read, memory, name)

    def _read(self, memory: CudaMemory, name: str) -> np.ndarray:
        binding, allocation = self._find(memory, name)
        values = np.empty(binding.shape, np.float32 if binding.dtype == "float32" else np.uint16)
        self._stream.synchronize()
        self._gpu.driver.memcpy_dtoh(values, allocation)
        return values

    def write(self, memory: CudaMemory, name: str, values: np.ndarray) -> None:
        self._gpu.run(self._write, memory, name, values)

    def _write(self, memory: CudaMemory, name: str, values: np.ndarray) -> None:
        binding, allocation = self._find(memory, name)
        values = np.ascontiguousarray(values)
        if values.nbytes != binding.nbytes(1):
            raise ValueError(f"{name} takes {binding.nbytes(1)} bytes, not {values.nbytes}")
        self._stream.synchronize()
        self._gpu.driver.memcpy_htod(allocation, values)

    def _find(self, memory: CudaMemory, name: str) -> tuple[Binding, Any]:
        binding = next(b for b in (*self._bindings.state, *self._bindings.ring) if b.name == name)
        return binding, (memory.ring if name in memory.ring else memory.sides[memory.side])[name]

    def _next(self, memory: CudaMemory) -> dict[str, Any]:
        other = memory.sides[1 - memory.side]
        return {following(name): allocation for name, allocation in other.items()}

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self._stream.handle):
            raise EngineError(f"{self._trt.name} could not run the engine; its message stands above")

    def _logits_of(self, rows: int) -> tuple[Any, np.ndarray]:
        """Device and host memory for logits; a conversation rarely asks for more than one row."""
        capacity = 1 if rows == 1 else self._bindings.ring_size.chunk
        if capacity not in self._logits:
            shape = (capacity, self._bindings.config.vocab_size)
            host = self._gpu.driver.pagelocked_empty(shape, np.float32)
            self._logits[capacity] = self._gpu.driver.mem_alloc(host.nbytes), host
        return self._logits[capacity]


def _names(engine: Any) -> tuple[str, ...]:
    """All inputs and outputs of an engine; a builder may drop an input that nothing reads."""
    return tuple(engine.get_tensor_name(i) for i in range(engine.num_io_tensors))


def _bind(context: Any, names: tuple[str, ...], addresses: dict[str, Any]) -> None:
    for name in names:
        _set(name in addresses and context.set_tensor_address(name, int(addresses[name])), name)


def _set(done: bool, name: str) -> None:
    if not done:
        raise EngineError(f"the built engine does not take {name!r} as it is; build it again: nano-agent build")


def _release(gpu: Gpu, graphs: dict[int, CudaGraph], allocations: list[Any]) -> None:
    """Free a memory on the GPU's thread; at the end of the process, when that is gone, the driver does it."""

    def free() -> None:
        for graph in graphs.values():
            graph.free()
        for allocation in allocations:
            allocation.free()

    try:
        gpu.thread.submit(gpu._pushed, free)
    except RuntimeError:
        return
