"""The faults that make people leave an event loop, looked for on several: `python -m tests.trust`."""
