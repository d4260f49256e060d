"""Pages for people: `/`, `/docs` and `/redoc`. They ask nothing of any other address.

The scripts of Swagger UI and Redoc are files of the package `fastapi-offline`, served from here; none of its code is
used. No page has a script inside, so that a strict content security policy holds.
"""

from __future__ import annotations

import base64
import html
import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from app.core.errors import NotFound
from app.core.example_commands import example_commands
from app.core.manifest import Measure, Task
from app.core.metric_names import figure, goal_of, title_of, verdict
from app.engine.registry import Model
from app.pages import examples
from app.pages import model_cards as cards
from app.pages import openapi_document as openapi
from app.web.context import Context

HERE: Final = Path(__file__).parent / "static"
TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
THEIRS: Final = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js")
FIGURES_SHOWN: Final = 4
OURS: Final = ("docs.js", "page.css")
# Redoc ends its menu with a picture from its makers' address: the one thing in these files that asks outside.
OUTSIDE_PICTURE: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"

TITLES: Final[dict[Task, str]] = {
    "classify": "What is it?",
    "regress": "How much?",
    "reconstruct": "What stays of it in a few numbers?",
    "generate": "Make new ones",
    "denoise": "Make it clear",
    "translate": "Show it as something else",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
{head}
</head>
<body>
{body}
</body>
</html>
"""
SWAGGER: Final = PAGE.format(
    title="Lectern: the API, to try",
    head='<link rel="stylesheet" href="static/swagger-ui.css">',
    body='<div id="docs" data-page="swagger" data-document="openapi.json"></div>\n'
    '<script src="static/swagger-ui-bundle.js"></script>\n<script src="static/docs.js"></script>',
)
REDOC: Final = PAGE.format(
    title="Lectern: the API, to read",
    head='<link rel="stylesheet" href="static/page.css">',
    body='<div id="docs" data-page="redoc" data-document="openapi.json"></div>\n'
    '<script src="static/redoc.standalone.js"></script>\n<script src="static/docs.js"></script>',
)


@lru_cache(maxsize=len(THEIRS) + len(OURS))
def static_file(name: str) -> bytes:
    """One of the scripts and styles.

    Raises:
        NotFound: it is none of them.
    """
    if name in OURS:
        return (HERE / name).read_bytes()
    if name not in THEIRS:
        raise NotFound(f"there is no file {name[:100]!r}", subject="path", expected=", ".join((*OURS, *THEIRS)))
    # Found, not imported: importing the package would run code that is not used.
    spec = importlib.util.find_spec("fastapi_offline")
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("the package fastapi-offline, which has this file, is not installed", subject="path")
    data = (Path(spec.submodule_search_locations[0]) / "static" / name).read_bytes()
    return data.replace(OUTSIDE_PICTURE, b"data:,")


def page(text: str) -> HTMLResponse:
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})


def install(app: FastAPI, context: Context, *, docs: bool) -> None:
    """Give the app its pages; without `docs` only the landing page, which then links to none."""

    @app.get("/", include_in_schema=False)
    async def landing(request: Request) -> Response:
        return page(landing_page(context, str(request.base_url).rstrip("/"), docs=docs))

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        data = static_file(name)
        return Response(data, media_type=TYPES[Path(name).suffix], headers={"Cache-Control": "public, max-age=3600"})

    if not docs:
        return

    @app.get("/docs", include_in_schema=False)
    async def swagger() -> Response:
        return page(SWAGGER)

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> Response:
        return page(REDOC)

    @app.get("/openapi.json", include_in_schema=False)
    async def document() -> Response:
        return openapi.response(app)


def landing_page(context: Context, base: str, *, docs: bool) -> str:
    """What is loaded, what each model makes of a few pictures, and commands to try."""
    registry = context.registry
    by_task = {task: [model for model in registry.catalog.models if model.manifest.task == task] for task in TITLES}
    models = "\n".join(
        f"<h2>{TITLES[task]}</h2>"
        + "\n".join(_model(model, base, cards.default_for(model, context)) for model in found)
        for task, found in by_task.items()
        if found
    )
    refused = "\n".join(
        f"<li><strong>{html.escape(r.folder)}</strong><br>{html.escape(r.reason)}</li>"
        for r in registry.catalog.refused
    )
    links = [("v1/models", "Models as JSON"), ("health/ready", "Readiness"), ("metrics", "Metrics")]
    if docs:
        links = [("docs", "Try the API"), ("redoc", "Read the API"), ("openapi.json", "OpenAPI"), *links]
    count = len(registry.catalog.models)
    plural = "" if count == 1 else "s"
    there = f"{count} model{plural} on {html.escape(registry.device)}" if count else "nothing. No model is loaded"
    body = f"""<main>
<h1>Lectern</h1>
<p class="lead">This server answers with {there}.</p>
<nav>{_links(links)}</nav>
{models}
{f"<h2>Refused</h2><ul>{refused}</ul>" if refused else ""}
</main>"""
    return PAGE.format(title="Lectern", head='<link rel="stylesheet" href="static/page.css">', body=body)


def _figures(quality: Sequence[Measure]) -> str:
    """The first figures that have a goal, and whether it is reached; without any, the first one."""
    shown = [q for q in quality if q.goal is not None][:FIGURES_SHOWN] or quality[:1]
    return "".join(
        f"<div><dt>{html.escape(title_of(q.name))}</dt><dd>{figure(q.value, q.name, q.unit)}</dd>"
        + (f"<dd>goal: {goal_of(q)} {verdict(q)}</dd>" if q.goal is not None else "")
        + "</div>"
        for q in shown
    )


def _model(model: Model, address: str, default_for: Sequence[str]) -> str:
    """One model: what it is, how good, and its own golden rows with its answers to them."""
    m = model.manifest
    at = f"v1/models/{m.name}"
    links = [(f"{at}?version={m.version}", "model card")]
    if m.report:
        links.insert(0, (f"{at}/report?version={m.version}", "report"))
    pictures = "".join(
        f'<figure><img alt="" width="56" height="56" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{html.escape(label)}</figcaption></figure>"
        for png, label in examples.answered(model)
    )
    default = f"; answers <b>{', '.join(default_for)}</b> where no model is named" if default_for else ""
    return (
        f'<section class="model"><h3>{html.escape(m.name)} <small>version {m.version}, {html.escape(model.device)}'
        f"{default}</small></h3><p>{html.escape(m.summary)}</p>"
        f'<div class="pictures">{pictures}</div><dl>{_figures(m.quality)}</dl>'
        f"<pre>{html.escape(chr(10).join(example_commands(m, address)))}</pre><nav>{_links(links)}</nav></section>"
    )


def _links(links: list[tuple[str, str]]) -> str:
    return "".join(f'<a href="{href}">{text}</a>' for href, text in links)
