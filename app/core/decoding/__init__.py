"""From a net's outputs over time to words and segments: pure NumPy, no I/O."""
