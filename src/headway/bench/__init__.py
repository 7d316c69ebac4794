"""Measuring a server over its OpenAI-compatible API."""
