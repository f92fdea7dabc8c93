"""Memory of snapshots, used again: pages that the system has just handed out cost more to touch than to copy to."""

from __future__ import annotations

import contextlib
import mmap
import weakref
from collections import deque

import numpy as np

_HUGE_PAGE = 2 << 20
_KEPT = 1  # buffers of 85 MB and more for a 4B model


class HostBuffers:
    """Hands out byte arrays and keeps the memory of the one let go last for the next. Any thread may call it."""

    def __init__(self) -> None:
        """Start with none."""
        self._free: deque[mmap.mmap] = deque(maxlen=_KEPT)

    def take(self, nbytes: int) -> np.ndarray:
        """Return an array uint8 [nbytes] of any content; its memory comes back when nothing refers to it any more."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = None
        if memory is None or len(memory) < nbytes:
            memory = _mapped(nbytes)
        whole = np.frombuffer(memory, dtype=np.uint8)
        # Every view of the array, of NumPy's or a memoryview, keeps `whole` alive.
        weakref.finalize(whole, self._free.append, memory).atexit = False
        return whole[:nbytes]


def _mapped(nbytes: int) -> mmap.mmap:
    """Private memory with room to grow by a quarter: a conversation's next snapshot is a little larger."""
    size = -(-(nbytes + nbytes // 4) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them: small pages do as well
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
