"""A generator that needs no cloud and no model: it draws and films what the prompt's words suggest."""

from shared.adapters.generators.local_renderer.generator import LocalRenderer

__all__ = ["LocalRenderer"]
