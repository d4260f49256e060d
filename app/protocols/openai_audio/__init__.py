"""OpenAI's form of speech recognition, `POST /v1/audio/transcriptions`: what the client `openai` speaks.

Source: the API reference (audio, create transcription) and the types of the package `openai` 3. Errors have that
protocol's own form, `{"error": {"message": ...}}`. `model` is the exact name of a model that is loaded.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from app.protocols.openai_audio.errors import error_response, is_mine, refusal
from app.protocols.openai_audio.openapi import DESCRIPTION, TAG, complete
from app.protocols.openai_audio.transcriptions import ENDPOINT
from app.web.context import Context
from app.web.endpoint import Endpoint

__all__ = ["DESCRIPTION", "ENDPOINTS", "TAG", "complete", "error_response", "is_mine", "refusal", "router"]

ENDPOINTS: Final[tuple[Endpoint, ...]] = (ENDPOINT,)


def router(context: Context) -> APIRouter:
    """The endpoint, bound to what it serves."""
    routes = APIRouter(tags=[TAG])
    ENDPOINT.add_to(routes, context)
    return routes
