"""The virtual-time executor: the same scheduler that serves, on hardware that is a formula, faster than real time.

Imports the policy alone. Deterministic by seed; knows no clock but its own.
"""
