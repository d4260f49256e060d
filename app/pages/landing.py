"""Pages for people: `/`, `/docs` and `/redoc`. They ask nothing of any other address.

The scripts of Swagger UI and Redoc are files of the package `fastapi-offline`, served from here; none of its code is
used. No page has a script inside, so that a strict content security policy holds.
"""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response

from app.core.errors import NotFound
from app.core.example_commands import example_commands
from app.core.manifest import TASKS, Measure, Modality, Task
from app.core.metric_names import figure, goal_of, outcome, title_of
from app.engine.registry import Model
from app.pages import model_cards as cards
from app.pages import openapi_document as openapi
from app.pages.gallery import Example, gallery
from app.pages.kept import ADDRESS, Kept, tag_of, tagged
from app.web.context import Context
from app.web.request.media_types import JSON

HERE: Final = Path(__file__).parent / "static"
TYPES: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
THEIRS: Final = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js")
FIGURES_SHOWN: Final = 4
OURS: Final = ("docs.js", "page.css")
# Redoc ends its menu with a picture from its makers' address: the one thing in these files that asks outside.
OUTSIDE_PICTURE: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"

Group = tuple[Task, Modality]
OBJECTS: Final[dict[Modality, str]] = {
    "image": "pictures",
    "table": "table rows",
    "text": "text",
    "audio": "sound",
    "video": "clips",
    "tensor": "tensors",
}
SHOWN: Final[dict[Task, str]] = {
    "classify": "",
    "generate": "noise above, what the model sees in it below",
    "denoise": "noisy, denoised",
    "translate": "given above, translated below",
}
"""Tasks whose default model shows its answers above the fold, and the caption where both pictures are there."""
LARGE: Final = 64
"""Pixels; a wider picture is shown larger, and fewer of them."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HTML: Final = "text/html; charset=utf-8"
PAGE_HEADERS: Final = {"Content-Security-Policy": POLICY}
STATIC_HEADERS: Final = {"Cache-Control": "public, max-age=3600"}

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
    # Redoc writes in dark colours whatever the reader's scheme is.
    head='<meta name="color-scheme" content="light">\n<style>body { margin: 0; background: white }</style>',
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


@lru_cache(maxsize=len(THEIRS) + len(OURS))
def _static_tag(name: str) -> str:
    return tag_of(static_file(name))


def install(app: FastAPI, context: Context, *, docs: bool, has_keys: bool = False) -> None:
    """Give the app its pages; without `docs` only the landing page, which then links to none.

    Args:
        has_keys: whether what is no page needs a key, which a browser that follows a link does not send.
    """

    catalog = context.registry.catalog

    def kept(make: Callable[[], str], kind: str = HTML, headers: Mapping[str, str] = PAGE_HEADERS) -> Kept:
        return Kept(catalog, make, kind, headers)

    first = kept(partial(landing_page, context, ADDRESS, docs=docs, has_keys=has_keys))

    @app.get("/", include_in_schema=False)
    async def landing(request: Request) -> Response:
        return await first.respond(request, html.escape(str(request.base_url).rstrip("/")))

    @app.get("/static/{name}", include_in_schema=False)
    async def static(request: Request, name: str) -> Response:
        content = static_file(name)
        return tagged(request, lambda: content, _static_tag(name), TYPES[Path(name).suffix], STATIC_HEADERS)

    if not docs:
        return

    for path, one in (
        ("/docs", kept(lambda: SWAGGER)),
        ("/redoc", kept(lambda: REDOC)),
        ("/openapi.json", kept(partial(openapi.text, app), JSON, {})),
    ):
        app.add_api_route(path, one.answer, include_in_schema=False)


def landing_page(context: Context, base: str, *, docs: bool, has_keys: bool = False) -> str:
    """A few pictures and what default models make of them; then, by task and kind of input, a line for each model.

    Args:
        base: the server's address, without a slash at its end; it stands in the commands.
        docs: whether there are documentation pages to link to.
        has_keys: as in `install`; no link then leads to what needs a key.
    """
    registry = context.registry
    defaults = {model: cards.default_for(model, context) for model in registry.catalog.models}
    groups: dict[Group, list[Model]] = {(task, modality): [] for task in TASKS for modality in OBJECTS}
    for model in sorted(registry.catalog.models, key=lambda model: not defaults[model]):  # the default first
        groups[model.manifest.task, model.manifest.modality].append(model)
    groups = {group: models for group, models in groups.items() if models}
    shown = "".join(_shown(group, models[0]) for group, models in groups.items() if group[0] in SHOWN)
    sections = "\n".join(
        f'<section id="{"-".join(group)}"><h2>{_heading(group)}</h2>'
        + "".join(_line(model, base, defaults[model], cards_open=not has_keys) for model in models)
        + "</section>"
        for group, models in groups.items()
    )
    refused = "".join(
        f"<li><strong>{html.escape(r.folder)}</strong><br>{html.escape(r.reason)}</li>"
        for r in registry.catalog.refused
    )
    links = [("health/ready", "Readiness")]
    if not has_keys:
        links = [("v1/models", "Models as JSON"), *links, ("metrics", "Metrics")]
    if docs:
        links = [("docs", "Try the API"), ("redoc", "Read the API"), ("openapi.json", "OpenAPI"), *links]
    count = len(registry.catalog.models)
    where = html.escape(registry.device)
    loaded = f"{count} model{'s run' if count > 1 else ' runs'} on {where}" if count else "No model is loaded"
    body = f"""<main>
<h1>Lectern</h1>
<p class="lead">Trained models as a REST API. {loaded}.</p>
<nav>{_links(links)}</nav>
<div class="shown">{shown}</div>
{sections}
{f"<h2>Refused</h2><ul>{refused}</ul>" if refused else ""}
</main>"""
    return PAGE.format(title="Lectern", head='<link rel="stylesheet" href="static/page.css">', body=body)


def _heading(group: Group) -> str:
    task, modality = group
    return f"{TASKS[task].title} {OBJECTS[modality]}"


def _shown(group: Group, model: Model) -> str:
    """A card above the fold, which leads to the models of that task; nothing for a model without pictures."""
    found = gallery(model)
    if not found:
        return ""
    pairs = found[0].given is not None and found[0].answered is not None
    large = found[0].width > LARGE
    count = 1 if large else 4 if pairs else 8
    if pairs:  # from all over the range of noise
        found = tuple(found[i * len(found) // count] for i in range(min(count, len(found))))
    note = f": {SHOWN[group[0]]}" if pairs else ""
    figures = _figures(found[:count])
    return (
        f'<a href="#{"-".join(group)}"><strong>{_heading(group)}</strong>'
        f'<span class="pictures{" large" if large else ""}">{figures}</span>'
        f"<small>{html.escape(model.name)}{note}</small></a>"
    )


def _figures(found: Sequence[Example]) -> str:
    return "".join(
        "<span>"
        + "".join(
            f'<img alt="{alt}" src="{src}">' for alt, src in (("given", e.given), ("answered", e.answered)) if src
        )
        + (f"<small>{html.escape(e.label)}</small>" if e.label else "")
        + "</span>"
        for e in found
    )


def _line(model: Model, address: str, default_for: Sequence[str], *, cards_open: bool) -> str:
    """A model in one line; it opens to its summary, pictures, figures, commands and links."""
    m = model.manifest
    at = f"v1/models/{m.name}"
    links = [(f"{at}?version={m.version}", "model card")] if cards_open else []
    if m.report:
        links.insert(0, (f"{at}/report?version={m.version}", "report"))
    # The first figures that have a goal; without any, the first one.
    measures = [measure for measure in m.quality if measure.goal is not None] or m.quality[:1]
    default = f"<p>Answers <b>{', '.join(default_for)}</b> where no model is named.</p>" if default_for else ""
    commands = example_commands(m, address)
    files = "<p>The file behind @ is one of your own.</p>" if any("=@" in command for command in commands) else ""
    found = gallery(model)
    large = " large" if found and found[0].width > LARGE else ""
    return (
        f'<details class="model"><summary><span><b>{html.escape(m.name)}</b><small>/{html.escape(m.version)}'
        f"{' · default' if default_for else ''}</small></span>"
        f" <span>{html.escape(m.title)}</span> <span>{_in_words(measures[0]) if measures else ''}</span></summary>"
        f"<p>{html.escape(m.summary)}</p>{default}"
        f'<div class="pictures{large}">{_figures(found[: 4 if large else 8])}</div>'
        f"<ul>{''.join(f'<li>{_in_words(measure)}</li>' for measure in measures[:FIGURES_SHOWN])}</ul>"
        f"<pre>{html.escape(chr(10).join(commands))}</pre>{files}<nav>{_links(links)}</nav></details>\n"
    )


def _in_words(m: Measure) -> str:
    """`Accuracy 99.62 % on 10,000 rows; goal at least 99.75 %: missed by 0.13 points`."""
    measured = f"{html.escape(title_of(m.name))} <b>{figure(m.value, m.name, m.unit)}</b> on {m.rows:,} rows"
    return measured if m.goal is None else f"{measured}; goal {goal_of(m)}: {outcome(m)}".removesuffix(": ")


def _links(links: list[tuple[str, str]]) -> str:
    return "".join(f'<a href="{href}">{text}</a>' for href, text in links)
