"""The store in memory."""

from shared.adapters.memory.store import MemoryStore

__all__ = ["MemoryStore"]
