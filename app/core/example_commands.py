"""A first request to a model, as a command to paste."""

from __future__ import annotations

import json
from urllib.parse import quote

from app.core.manifest import Manifest, Task
from app.core.manifest.table import Table


def example_commands(manifest: Manifest, address: str) -> list[str]:
    """Commands that the model answers; `address` is the server's, without a slash at its end."""
    at = f"{address}/v1/{{}}?model={manifest.name}"
    found = []
    for task in manifest.tasks:
        url = at.format(task)
        if task == "generate":
            found += _generate(manifest, url)
        elif manifest.table is not None:
            row = json.dumps({"instances": [middle_row(manifest.table)]}, ensure_ascii=False).replace("'", "'\\''")
            found.append(f"curl -H 'Content-Type: application/json' -d '{row}' '{url}'")
        elif task == "translate":
            found += [_translate(way.target, url) for way in manifest.translations]
        elif task == "denoise":
            found.append(f"curl -H 'Accept: image/png' -F image=@noisy.png '{url}' -o denoised.png")
        elif manifest.picture is not None:
            found.append(f"curl -F image=@picture.png '{url}'")
    return found


def answers_plainly(manifest: Manifest, task: Task) -> bool:
    """Whether it answers what is asked first of the task: of `generate` new pictures, for which it needs a prior."""
    return task != "generate" or manifest.latent is None or manifest.latent.prior is not None


def middle_row(table: Table) -> dict[str, float | str]:
    """A row by name: the middle of each column's range, and its first category."""
    return {
        column.name: column.categories[0] if column.kind == "category" else _short((column.low + column.high) / 2)
        for column in table.columns
    }


def _generate(manifest: Manifest, url: str) -> list[str]:
    """Sixteen pictures as one; of a model that draws in steps also one of them step by step."""
    latent = manifest.latent
    if latent is None or answers_plainly(manifest, "generate"):
        label = f"&label={quote(manifest.drawn_labels[-1], safe='')}" if manifest.drawn_labels else ""
        drawn = f"curl -X POST -H 'Accept: image/png' '{url}&n=16{label}&seed=1' -o drawn.png"
        steps = f"curl -N -X POST -H 'Accept: text/event-stream' '{url}&n=1{label}&seed=1'"
        return [drawn] if manifest.sampling is None else [drawn, steps]
    middle = [_short((low + high) / 2) for low, high in zip(latent.low, latent.high, strict=True)]
    body = json.dumps({"latents": [middle]})
    return [f"curl -H 'Content-Type: application/json' -H 'Accept: image/png' -d '{body}' '{url}' -o drawn.png"]


def _translate(target: str, url: str) -> str:
    where = f"{url}&to={target}&layout=cycle"
    return f"curl -H 'Accept: image/png' -F image=@picture.png '{where}' -o {target}.png"


def _short(value: float) -> float:
    """Three significant figures, whole where they are."""
    value = float(f"{value:.3g}")
    return int(value) if value.is_integer() else value
