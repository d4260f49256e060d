"""Learns PyTorch models and publishes them for the server, which never imports this package."""

from importlib.util import find_spec

if find_spec("torch") is None:  # said before the first import fails with a stack trace
    raise SystemExit("error: torch is missing; `make training` installs what training needs")
