"""LibreTranslate's form of translation, `POST /translate` and `GET /languages`: what its clients speak.

Source: the API reference of LibreTranslate 1.6 (docs.libretranslate.com). Errors have that protocol's own form,
`{"error": "..."}`. A key that is needed goes into a header, not into `api_key`.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from app.protocols.libre_translate.errors import error_response, is_mine, refusal
from app.protocols.libre_translate.languages import LibreLanguage, listed_languages
from app.protocols.libre_translate.openapi import DESCRIPTION, TAG, complete
from app.protocols.libre_translate.translations import ENDPOINT
from app.web.context import Context
from app.web.endpoint import Endpoint

__all__ = ["DESCRIPTION", "ENDPOINTS", "TAG", "complete", "error_response", "is_mine", "refusal", "router"]

ENDPOINTS: Final[tuple[Endpoint, ...]] = (ENDPOINT,)


def router(context: Context) -> APIRouter:
    """The endpoints, bound to what they serve."""
    routes = APIRouter(tags=[TAG])
    ENDPOINT.add_to(routes, context)

    @routes.get("/languages", operation_id="libre_languages", summary="The languages that are translated")
    async def languages() -> list[LibreLanguage]:
        return listed_languages(context.registry)

    return routes
