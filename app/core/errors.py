"""The exception tree. Pure: it knows status codes and words, not the web framework.

    LecternError                     reported to a client or an operator, without a stack trace
    |-- ClientError                  the request is at fault
    |   |-- Unauthorized        401  no API key, or one that is not known
    |   |-- Forbidden           403  switched off by a setting
    |   |-- NotFound            404  no such model, version or page
    |   |-- NotAcceptable       406  no such form of answer
    |   |-- Stalled             408  the body did not arrive in time
    |   |-- Conflict            409  another model does this; it is named
    |   |-- TooLarge            413  more bytes, rows or pixels than the limits
    |   |-- UnsupportedMedia    415  a content type or file format that is not taken
    |   `-- Unprocessable       422  understood, and wrong
    |       `-- SeveralPieces   422  several pieces of writing where one is read; has `boxes`
    |-- Busy                    429  the queue is full; has Retry-After
    |-- Unavailable             503  not ready, or shutting down
    |-- TooLate                 504  the deadline passed before the answer
    |-- InferenceFailed         500  the runtime raised on rows that passed every check
    `-- LoadRefused                  a model folder that differs from its manifest

Every error names its subject (where), what was expected and what came instead; `invalid` builds it from these.
"""

from __future__ import annotations

from typing import ClassVar

SHOWN_CHARACTERS = 200
SHOWN_BOXES = 8  # in a sentence


def shown(value: object) -> str:
    """`repr(value)`, cut to a length that a person reads and a log line holds."""
    # Cut before as well: of a text of megabytes it would take long to write what nobody reads.
    text = repr(value[:SHOWN_CHARACTERS] if isinstance(value, str) else value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


class LecternError(Exception):
    """An error with a subject (where), what was expected there, and what was got.

    Args:
        detail: one whole sentence for a person.
        subject: the field, header, file or parameter at fault, e.g. "image[3]" or "query.top_k".
        expected: what is taken there.
        got: what came.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, detail: str, *, subject: str | None = None, expected: str | None = None, got: str | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.subject = subject
        self.expected = expected
        self.got = got

    @property
    def kind(self) -> str:
        """The error's stable name, for clients that branch on it: `UnsupportedMedia` -> `unsupported-media`."""
        name = type(self).__name__
        return "".join("-" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))

    @property
    def headers(self) -> dict[str, str]:
        """Response headers that belong to this error."""
        return {}


class ClientError(LecternError):
    status = 400
    title = "Bad request"


class Unauthorized(ClientError):
    status = 401
    title = "API key missing or not known"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(ClientError):
    status = 403
    title = "Switched off here"


class NotFound(ClientError):
    status = 404
    title = "Not found"


class NotAcceptable(ClientError):
    status = 406
    title = "No such form of answer"


class Stalled(ClientError):
    status = 408
    title = "The body did not arrive"


class Conflict(ClientError):
    status = 409
    title = "Not with this model"


class TooLarge(ClientError):
    status = 413
    title = "Too large"


class UnsupportedMedia(ClientError):
    status = 415
    title = "Unsupported media type"


class Unprocessable(ClientError):
    status = 422
    title = "Cannot be processed"


class SeveralPieces(Unprocessable):
    """Args:
    boxes: left, top, right and bottom of each piece, in pixels of the upright picture; right and bottom are outside.
    """

    title = "Several pieces of writing"

    def __init__(self, subject: str, boxes: list[tuple[int, int, int, int]]) -> None:
        got = f"{len(boxes)} pieces"
        listed = "; ".join(", ".join(map(str, box)) for box in boxes[:SHOWN_BOXES])
        more = f"; and {len(boxes) - SHOWN_BOXES} more" if len(boxes) > SHOWN_BOXES else ""
        super().__init__(
            f"{subject}: has {got} of writing, expected one: send each by itself "
            f"(left, top, right, bottom in pixels: {listed}{more})",
            subject=subject,
            expected="one piece of writing",
            got=got,
        )
        self.boxes = boxes


def invalid(
    subject: str,
    *,
    expected: str | None = None,
    got: str | None = None,
    where: str | None = None,
    verb: str = "is",
    rule: str = "it must be",
    why: str = "",
    detail: str | None = None,
    error: type[ClientError] = Unprocessable,
) -> ClientError:
    """The error for a wrong value, to be raised: `{where} {verb} {got}, {rule} {expected}{why}`.

    Args:
        subject: the field, header, file or parameter at fault, e.g. "image[3]" or "query.top_k".
        expected: what is taken there.
        got: what came; a value from a client as `shown(value)` or `described(value)`.
        where: the subject as the sentence names it, where that differs, e.g. "the body" or "image[3]:".
        verb: "is" or "has".
        rule: what leads to `expected`: "it must be", "expected" or "at most".
        why: what follows the sentence, with its own punctuation.
        detail: the whole sentence, in place of the one above; `expected` and `got` may then be left out.
        error: the class, which has the status and the slug.
    """
    if detail is None:
        assert None not in (expected, got), "the sentence needs both"
        detail = f"{where or subject} {verb} {got}, {rule} {expected}{why}"
    return error(detail, subject=subject, expected=expected, got=got)


def over_limit(subject: str, *, got: str, most: int, unit: str, verb: str = "has") -> ClientError:
    """The error for a file with more than a limit: `{subject}: {verb} {got}, the limit is {most}`."""
    detail = f"{subject}: {verb} {got}, the limit is {most}"
    return invalid(subject, expected=f"at most {most} {unit}", got=got, detail=detail, error=TooLarge)


class Busy(LecternError):
    status = 429
    title = "The queue is full"

    def __init__(self, detail: str, *, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(max(1, round(self.retry_after_s)))}


class Unavailable(LecternError):
    status = 503
    title = "Not available"


class TooLate(LecternError):
    status = 504
    title = "The deadline has passed"


class InferenceFailed(LecternError):
    title = "The model could not be run"


class LoadRefused(LecternError):
    title = "Model folder refused"
