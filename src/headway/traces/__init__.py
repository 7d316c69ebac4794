"""Traces of real traffic that come with the package, for whoever replays them: see ``data/README.md``."""
