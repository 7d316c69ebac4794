"""The one error of this layer."""

from __future__ import annotations


class ModelError(Exception):
    """A model can't be used. The message is one clear line that names the file or the field, and the limit."""
