"""What all tests share."""

from __future__ import annotations

import pytest


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
