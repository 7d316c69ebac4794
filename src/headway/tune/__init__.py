"""Finding the best operating point of a server within a promise: a search over levels of load measured by ``bench``."""
