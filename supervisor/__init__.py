"""The domain of Gaoler and its daemon."""

__version__ = "0.1.0"
