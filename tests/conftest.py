"""What all tests share."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator
from ctypes.util import find_library

import pytest

from bench.pulse import Pulse, PulseError, pulse_in


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path_factory):
    """Conversations and caches of a test are its own, in child processes too."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def one_torch_thread():
    """On networks this small PyTorch's threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bench():
    """Nodes under test and a probe, over DDS, in a domain of their own (ros_bench.Bench)."""
    from ros_bench import Bench

    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def pulse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulse]:
    """A PulseAudio daemon of the test's own; the test is skipped, with the reason, where there is none to be had.

    What is looked for is what the system lacks, apart from the code under test: with all of it there, a test that
    hears nothing fails.
    """
    plugins = glob.glob("/usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so")
    if not plugins or not find_library("portaudio"):
        pytest.skip("no PortAudio, or none that reaches PulseAudio (apt-get install libportaudio2 libasound2-plugins)")
    with contextlib.ExitStack() as stack:
        try:
            daemon = stack.enter_context(pulse_in(tmp_path_factory.mktemp("pulse")))
        except PulseError as error:
            pytest.skip(str(error))
        yield daemon
