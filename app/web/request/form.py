"""What an endpoint's request may be."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from app.web.request.options import Known


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """The forms of request that one endpoint takes.

    Attributes:
        schema: of a JSON body.
        options: that may stand in the query, in fields of a form and in a JSON body; fields of `schema` as well.
        json_options: that may stand in a JSON body alone.
        takes: media types of bodies.
        offers: media types of responses; the first where the client has no preference.
    """

    schema: type[BaseModel]
    options: Known
    takes: tuple[str, ...]
    offers: tuple[str, ...]
    json_options: Known = field(default_factory=dict)
