"""Capacity planning: which GPUs, how many, in what arrangement, keep a promise at a load, and at what cost."""
