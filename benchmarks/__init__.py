"""What Headway's speed claims rest on. ``python -m benchmarks`` lists what can be run."""
