"""First requests to a model, as commands to paste."""

from __future__ import annotations

from app.core.manifest import TASKS, Manifest


def example_commands(manifest: Manifest, address: str) -> list[str]:
    """Commands that the model answers; `address` is the server's, without a slash at its end."""
    return [
        command
        for task in manifest.tasks
        for command in TASKS[task].commands(manifest, f"{address}/v1/{task}?model={manifest.name}")
    ]
