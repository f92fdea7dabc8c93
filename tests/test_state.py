"""A state is exactly its history: whatever was extended, committed, copied, forked and restored on the way there."""

from __future__ import annotations

import ctypes
import functools
import gc
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_artifact import CONFIGS, dequantized_network, make_artifact

from bench.numerics import kernel_sets
from nano_agent_ros.engine import native_library
from nano_agent_ros.engine.base import EngineError, Snapshot
from nano_agent_ros.engine.native_engine import NativeEngine
from nano_agent_ros.engine.torch_engine import TorchEngine
from nano_agent_ros.model.attention import Attention
from nano_agent_ros.quantize.artifact import read_artifact

SETS = [name for name in kernel_sets() if name != "float"]
each_set = pytest.mark.parametrize("kernels", SETS)
each_config = pytest.mark.parametrize("config", CONFIGS)
# Keys and values lie in blocks of 128 tokens: windows below, at and above that, sinks in one block, in two and in none.
WINDOWS = [(1, 0), (5, 3), (40, 0), (128, 128), (150, 130)]
each_window = pytest.mark.parametrize(("window", "sinks"), WINDOWS)
# Between the native engine with float activations and PyTorch with the same rounding of keys and values. A rounding
# that falls to the other side moves a logit by up to 7e-4; one token more in the window moves the rms by 3e-3 and more.
LARGEST, TYPICAL = 1e-2, 5e-4
VOCABULARY = 133  # ids that every configuration has


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return {name: make_artifact(tmp_path_factory.mktemp("model"), raw, 2) for name, raw in CONFIGS.items()}


@pytest.fixture(scope="module")
def engines(artifacts):
    """Gives the engine of a configuration, kernel set (or "torch"), window and sinks; each is opened once."""
    opened: dict[tuple, NativeEngine | TorchEngine] = {}

    def engine(config: str, kernels: str, window: int = 40, sinks: int = 3):
        key = (config, kernels, window, sinks)
        if key not in opened:
            if kernels == "torch":
                opened[key] = TorchEngine(artifacts[config], window=window, sinks=sinks)
                round_keys_and_values(opened[key]._network)
            else:
                opened[key] = NativeEngine(artifacts[config], kernels=kernels, threads=2, window=window, sinks=sinks)
        return opened[key]

    return engine


def round_keys_and_values(network: torch.nn.Module) -> None:
    """Keep keys and values in float16, as the native engine does."""
    for name, module in network.named_modules():
        if name.endswith(("k_proj", "v_proj")):
            module.register_forward_hook(lambda _, __, out: out.half().float())


def random_tokens(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, count).tolist()


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    error = np.abs(ours - theirs)
    assert error.max() < LARGEST
    assert np.sqrt((error**2).mean()) < TYPICAL


# Schedules ------------------------------------------------------------------------------------------------------------

indices = st.integers(0, 5)  # of a state or a snapshot, modulo how many there are
counts = st.integers(1, 40) | st.sampled_from([1, 127, 128, 129, 200, 256, 300])
operations = st.one_of(
    st.tuples(st.just("extend"), indices, counts, st.integers(0, 2**32 - 1), st.booleans()),
    st.tuples(st.just("commit"), indices, st.integers(0, 300) | st.just(0)),
    st.tuples(st.just("fork"), indices),
    st.tuples(st.just("snapshot"), indices),
    st.tuples(st.just("restore"), indices),
    st.tuples(st.just("drop"), indices),
)
schedules = st.lists(operations, min_size=3, max_size=14)


@dataclass
class Conversation:
    """States of every engine after `kept` and then `open` tokens: what they must equal."""

    states: list
    kept: list[int] = field(default_factory=list)
    open: list[int] = field(default_factory=list)

    @property
    def history(self) -> list[int]:
        return self.kept + self.open


class World:
    """Runs a schedule on several engines at once."""

    def __init__(self, *engines) -> None:
        self.engines = engines
        self.conversations = [Conversation([e.new_state() for e in engines])]
        self.snapshots: list[tuple[list[Snapshot], list[int]]] = []

    def run(self, schedule: list[tuple]) -> None:
        for name, index, *arguments in schedule:
            getattr(self, name)(index, *arguments)
            for c in self.conversations:
                for engine, state in zip(self.engines, c.states, strict=True):
                    assert engine.length(state) == len(c.history)

    def _pick(self, index: int) -> Conversation:
        return self.conversations[index % len(self.conversations)]

    def extend(self, index: int, count: int, seed: int, every: bool) -> None:
        c = self._pick(index)
        tokens = random_tokens(seed, count)
        logits = [e.extend(s, tokens, every) for e, s in zip(self.engines, c.states, strict=True)]
        for other in logits[1:]:
            assert_close(logits[0], other)
        c.kept, c.open = c.history, tokens

    def commit(self, index: int, n: int) -> None:
        c = self._pick(index)
        n %= len(c.open) + 1
        for e, s in zip(self.engines, c.states, strict=True):
            with pytest.raises(ValueError):
                e.commit(s, len(c.open) + 1)
            e.commit(s, n)
        c.kept, c.open = c.kept + c.open[:n], []

    def fork(self, index: int) -> None:
        c = self._pick(index)
        states = [e.fork(s) for e, s in zip(self.engines, c.states, strict=True)]
        self.conversations.append(Conversation(states, c.history))

    def snapshot(self, index: int) -> None:
        c = self._pick(index)
        taken = [e.snapshot(s) for e, s in zip(self.engines, c.states, strict=True)]
        c.kept, c.open = c.history, []  # a snapshot keeps every token
        self.snapshots.append((taken, list(c.kept)))

    def restore(self, index: int) -> None:
        if self.snapshots:
            taken, history = self.snapshots[index % len(self.snapshots)]
            states = [e.restore(s) for e, s in zip(self.engines, taken, strict=True)]
            self.conversations.append(Conversation(states, list(history)))

    def drop(self, index: int) -> None:
        if len(self.conversations) > 1:
            del self.conversations[index % len(self.conversations)]


def digest_after(engine: NativeEngine, history: list[int]) -> str:
    """Digest of a state that knows nothing but this history."""
    state = engine.new_state()
    if history:
        engine.extend(state, history)
    return engine.snapshot(state).digest


@pytest.mark.parametrize(("config", "window", "sinks"), [
    ("all kinds", 40, 3), ("all kinds", 150, 130), ("one group, tied", 5, 0), ("odd sizes", 128, 128),
])  # fmt: skip
@settings(max_examples=20, deadline=None)
@given(schedule=schedules)
def test_every_schedule_gives_the_logits_of_pytorch(config, window, sinks, engines, schedule):
    world = World(engines(config, "float", window, sinks), engines(config, "torch", window, sinks))
    world.run(schedule)
    for c in world.conversations:
        probe = [e.extend(s, [1, 2, 3], every=True) for e, s in zip(world.engines, c.states, strict=True)]
        assert_close(*probe)


@each_set
@pytest.mark.parametrize(("config", "window", "sinks"), [("all kinds", 40, 3), ("biases", 150, 130)])
@settings(max_examples=25, deadline=None)
@given(schedule=schedules)
def test_after_every_schedule_a_state_is_its_history_bit_for_bit(config, window, sinks, kernels, engines, schedule):
    engine = engines(config, kernels, window, sinks)
    world = World(engine)
    world.run(schedule)
    found: dict[tuple[int, ...], str] = {}
    for taken, history in world.snapshots:  # also: nothing that came after has changed them
        found[tuple(history)] = taken[0].digest
    for c in world.conversations:
        # The fork first: it must not see that the original takes its open tokens back.
        fork = engine.fork(c.states[0])
        engine.commit(c.states[0], 0)
        assert engine.snapshot(fork).digest == digest_after(engine, c.history)
        assert engine.snapshot(c.states[0]).digest == digest_after(engine, c.kept)
        found[tuple(c.history)] = digest_after(engine, c.history)
        found[tuple(c.kept)] = digest_after(engine, c.kept)
    assert len(set(found.values())) == len(found)  # other histories, other digests


# Forks ----------------------------------------------------------------------------------------------------------------


@each_set
@each_config
def test_a_fork_and_its_original_go_separate_ways(config, kernels, engines):
    engine = engines(config, kernels)
    for begin in (0, 1, 100, 128, 300):  # in the middle of a block of keys, at its end, with blocks that fell out
        state = engine.new_state()
        history = random_tokens(begin, begin)
        if history:
            engine.extend(state, history)
            engine.commit(state, begin)
        fork = engine.fork(state)
        ours, theirs = random_tokens(1, 150), random_tokens(2, 30)
        engine.extend(state, ours)
        engine.extend(fork, theirs)
        assert engine.snapshot(state).digest == digest_after(engine, history + ours)
        assert engine.snapshot(fork).digest == digest_after(engine, history + theirs)


@each_set
@pytest.mark.parametrize("count", [7, 128, 290])
@pytest.mark.parametrize("kept", [0, 3, 7])
def test_a_fork_has_the_open_tokens_and_the_original_may_take_them_back(kernels, count, kept, engines):
    engine = engines("all kinds", kernels)
    history, tokens, more = random_tokens(3, 60), random_tokens(4, count), random_tokens(5, 20)
    state = engine.new_state()
    engine.extend(state, history)
    engine.extend(state, tokens)
    fork = engine.fork(state)
    with pytest.raises(ValueError, match="cannot keep 1 of the 0 tokens"):
        engine.commit(fork, 1)
    engine.commit(state, kept)
    assert engine.snapshot(fork).digest == digest_after(engine, history + tokens)
    assert engine.snapshot(state).digest == digest_after(engine, history + tokens[:kept])
    engine.extend(state, more)
    assert engine.snapshot(state).digest == digest_after(engine, history + tokens[:kept] + more)
    engine.extend(fork, more)
    assert engine.snapshot(fork).digest == digest_after(engine, history + tokens + more)


def test_forks_of_forks_outlive_what_they_came_from(engines):
    engine = engines("all kinds", SETS[-1])
    state, history = engine.new_state(), []
    for step in range(12):
        tokens = random_tokens(step, 30)
        engine.extend(state, tokens)
        history += tokens
        state = engine.fork(state)  # the one before is let go
    assert engine.snapshot(state).digest == digest_after(engine, history)


def test_forks_may_be_used_and_let_go_on_any_thread(engines):
    engine = engines("all kinds", SETS[-1])
    root = engine.new_state()
    history = random_tokens(6, 140)
    engine.extend(root, history)
    wrong: list[int] = []

    def converse(i: int) -> None:
        for round_ in range(8):
            fork = engine.fork(root)
            tokens = random_tokens(100 * i + round_, 40)
            engine.extend(fork, tokens)
            engine.commit(fork, 25)
            if engine.snapshot(fork).digest != digest_after(engine, history + tokens[:25]):
                wrong.append(i)
            del fork

    threads = [threading.Thread(target=converse, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
    assert engine.snapshot(root).digest == digest_after(engine, history)


def test_a_state_may_be_let_go_after_its_engine(artifacts):
    engine = NativeEngine(artifacts["all kinds"])
    state = engine.new_state()
    engine.extend(state, [1, 2, 3])
    fork = engine.fork(state)
    engine._library.nano_engine_close(engine._handle)
    engine._handle = None
    del state, fork
    gc.collect()


# Snapshots ------------------------------------------------------------------------------------------------------------


def test_snapshots_of_other_kernels_are_refused(engines):
    one, other = engines("all kinds", "float"), engines("all kinds", "portable")
    with pytest.raises(EngineError, match="other kernels, the engine has 'portable'"):
        other.restore(one.snapshot(one.new_state()))


def test_a_snapshot_can_be_restored_from_any_bytes(engines):
    engine = engines("all kinds", SETS[-1])
    state = engine.new_state()
    engine.extend(state, random_tokens(7, 50))
    snapshot = engine.snapshot(state)
    assert memoryview(snapshot.data).readonly
    shifted = memoryview(b"x" + bytes(snapshot.data))[1:]  # no alignment at all
    for data in (bytes(snapshot.data), bytearray(snapshot.data), shifted):
        restored = engine.restore(Snapshot(snapshot.model_digest, snapshot.length, data))
        assert engine.snapshot(restored) == snapshot
    for data in (b"", b"x"):
        with pytest.raises(EngineError, match="too short"):
            engine.restore(Snapshot(snapshot.model_digest, snapshot.length, data))


def address(snapshot: Snapshot) -> int:
    return np.frombuffer(snapshot.data, dtype=np.uint8).ctypes.data


def test_the_memory_of_a_snapshot_is_used_again_but_never_while_it_is_held(artifacts):
    engine = NativeEngine(artifacts["all kinds"])
    state = engine.new_state()
    engine.extend(state, [1, 2, 3])
    first = engine.snapshot(state)
    place, content, view = address(first), bytes(first.data), first.data[10:]
    del first
    others = []
    for token in range(20):
        engine.extend(state, [token])
        others.append(engine.snapshot(state))
    assert bytes(view) == content[10:]  # a view is enough to hold it
    assert place not in [address(s) for s in others]
    del view
    assert address(engine.snapshot(state)) == place


def test_states_give_their_memory_to_the_next_ones(artifacts):
    engine = NativeEngine(artifacts["all kinds"], window=300)

    def anonymous_kb() -> int:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

    def converse() -> None:
        state = engine.new_state()
        for step in range(4):
            engine.extend(state, random_tokens(step, 200))
            before = engine.fork(state)
            engine.extend(state, random_tokens(step, 20))
            state = before

    converse()
    start = anonymous_kb()
    for _ in range(100):
        converse()
    # A state that leaked, or a block of keys, would be 40 KB each and 40 MB in all.
    assert anonymous_kb() - start < 8_000


def hashed_copy(kernels: str, content: np.ndarray, shift: int) -> tuple[int, bytes]:
    """Copy with a kernel set to a target `shift` bytes off a cache line; returns the hash and what lies there after."""
    room = np.full(len(content) + 256, 0xAA, dtype=np.uint8)
    begin = -room.ctypes.data % 64 + shift
    target = room[begin:]
    found = ctypes.c_uint64()
    byte = ctypes.POINTER(ctypes.c_uint8)
    library = native_library.load_library()
    library.nano_kernel_hashed_copy(
        kernels.encode(), content.ctypes.data_as(byte), ctypes.c_int64(len(content)), target.ctypes.data_as(byte),
        ctypes.byref(found),
    )  # fmt: skip
    assert (room[:begin] == 0xAA).all() and (target[len(content) :] == 0xAA).all()
    return found.value, target[: len(content)].tobytes()


def plain_hash(content: bytes) -> int:
    """The hash as hashed_copy.h defines it."""

    def step(h: int, word: int) -> int:
        h = (h ^ word) * 0x9E3779B185EBCA87 % 2**64
        return h ^ h >> 32

    padded = content + bytes(-len(content) % 256)
    lanes = list(range(32))
    for i in range(0, len(padded), 8):
        lanes[i // 8 % 32] = step(lanes[i // 8 % 32], int.from_bytes(padded[i : i + 8], "little"))
    return functools.reduce(step, lanes, len(content))


@each_set
@settings(max_examples=60, deadline=None)
@given(
    nbytes=st.integers(0, 1500) | st.sampled_from([255, 256, 257, 4096]),
    shift=st.sampled_from([0, 0, 1, 16, 32, 63]),
    offset=st.integers(0, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_copy_of_every_kernel_set_copies_and_hashes_as_written_down(kernels, nbytes, shift, offset, seed):
    content = np.random.default_rng(seed).integers(0, 256, nbytes + offset, dtype=np.uint8)[offset:]
    found, copied = hashed_copy(kernels, content, shift)
    assert copied == content.tobytes()
    assert found == plain_hash(content.tobytes())


# The attention window -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masked_logits(artifacts):
    """Gives the logits of PyTorch's full network whose attention is masked by hand: no cache, no ring, no state."""

    def logits(config: str, tokens: list[int], window: int, sinks: int) -> np.ndarray:
        network = dequantized_network(read_artifact(artifacts[config]))
        round_keys_and_values(network)
        assert all(m.window is None for m in network.modules() if isinstance(m, Attention))
        place = torch.arange(len(tokens))
        age = place[:, None] - place[None, :]
        mask = (age >= 0) & ((age < window) | (place[None, :] < sinks))
        plain, calls = F.scaled_dot_product_attention, []

        def masked(q, k, v, **_):
            calls.append(None)
            return plain(q, k, v, attn_mask=mask, enable_gqa=True)

        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            patch.setattr(F, "scaled_dot_product_attention", masked)
            hidden, _ = network(torch.tensor([tokens]))
            assert len(calls) == network.config.hybrid_override_pattern.count("*")
            return network.logits(hidden)[0].numpy()

    return logits


def one_by_one(engine, tokens: list[int]) -> np.ndarray:
    state = engine.new_state()
    return np.stack([engine.extend(state, [t]) for t in tokens])


@each_window
@pytest.mark.parametrize("config", ["all kinds", "odd sizes"])
@pytest.mark.parametrize("kernels", ["float", "torch"])
def test_a_window_equals_a_full_run_whose_older_keys_are_masked(config, kernels, window, sinks, engines, masked_logits):
    tokens = random_tokens(window, 450)
    engine = engines(config, kernels, window, sinks)
    expected = masked_logits(config, tokens, window, sinks)
    assert_close(engine.extend(engine.new_state(), tokens, every=True), expected)
    assert_close(one_by_one(engine, tokens), expected)


@each_set
@each_window
def test_with_int8_activations_the_window_is_the_same(kernels, window, sinks, engines, masked_logits):
    tokens = random_tokens(window + 1, 450)
    engine = engines("all kinds", kernels, window, sinks)
    expected = masked_logits("all kinds", tokens, window, sinks)
    together = engine.extend(engine.new_state(), tokens, every=True)
    assert np.array_equal(together, one_by_one(engine, tokens))
    assert np.sqrt(((together - expected) ** 2).mean()) < 0.06 * expected.std()


@each_window
def test_one_token_more_or_less_in_the_window_would_be_noticed(window, sinks, masked_logits):
    # What the tests above would see if the engines were off by one.
    tokens = random_tokens(window, 450)
    expected = masked_logits("all kinds", tokens, window, sinks)
    for other in ((window + 1, sinks), (window, sinks + 1)):
        error = masked_logits("all kinds", tokens, *other) - expected
        assert np.sqrt((error**2).mean()) > 2 * TYPICAL
