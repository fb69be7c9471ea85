"""Finds out whether a host that keeps storage across the network can lock up when memory runs out."""

__version__ = "0.1.0"
