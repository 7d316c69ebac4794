"""Headway: an LLM server that keeps the latency it promised."""

__version__ = "0.1.0"
