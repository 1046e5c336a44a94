"""Memory and descriptors under load: `python -m tests.load` for as much as one likes, a small part in the suite."""
