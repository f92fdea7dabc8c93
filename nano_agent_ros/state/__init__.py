"""What keeps a conversation: snapshots in files, the prompt computed once, sessions that survive."""

from .prefix_cache import PrefixCache, identity
from .session import Session, Sessions, Unsent
from .snapshot_file import StateFileError

__all__ = ["PrefixCache", "Session", "Sessions", "StateFileError", "Unsent", "identity"]
