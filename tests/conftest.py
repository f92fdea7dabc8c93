"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

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
    """A PulseAudio daemon of the test's own; the test is skipped, with the reason, where there is none to be had."""
    try:
        with pulse_in(tmp_path_factory.mktemp("pulse")) as daemon:
            yield daemon
    except PulseError as error:
        pytest.skip(str(error))
