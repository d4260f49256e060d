"""How fast the server is, measured with real processes: `python -m tests.bench` (make bench, make soak)."""
