"""`multipart/form-data` (RFC 7578) from a body that is already in memory: no temporary files, no copies but one."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.errors import ClientError, TooLarge, invalid, shown


@dataclass(slots=True)
class FormPart:
    """One part: `filename` is None for a plain field."""

    name: str
    filename: str | None
    data: bytes


@dataclass(slots=True)
class _FormCollector:
    """The parser's callbacks; `data` arrives in slices of the body."""

    max_parts: int
    parts: list[FormPart] = field(default_factory=list)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytes = b""
    header_value: bytes = b""
    data: list[bytes] = field(default_factory=list)
    ended: bool = False

    def on_part_begin(self) -> None:
        self.headers, self.data = {}, []
        self.header_name = self.header_value = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.header_value += data[start:end]

    def on_header_end(self) -> None:
        self.headers[self.header_name.lower()] = self.header_value
        self.header_name = self.header_value = b""

    def on_headers_finished(self) -> None:
        if len(self.parts) >= self.max_parts:
            raise invalid(
                "body",
                expected=f"at most {self.max_parts} parts",
                got=f"more than {self.max_parts}",
                detail=f"the form has more than {self.max_parts} parts",
                error=TooLarge,
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.data.append(data[start:end])

    def on_part_end(self) -> None:
        kind, options = parse_options_header(self.headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise invalid(
                f"form.part[{len(self.parts)}]",
                expected='Content-Disposition: form-data; name="..."',
                got=shown(self.headers.get(b"content-disposition", b"").decode("utf-8", "replace")),
                detail=f"part {len(self.parts)} of the form has no name",
            )
        filename = options.get(b"filename")
        if filename == b"" and not any(self.data):  # a browser's field in which no file was chosen
            return
        self.parts.append(
            FormPart(
                name=options[b"name"].decode("utf-8", "replace"),
                filename=None if filename is None else filename.decode("utf-8", "replace"),
                data=self.data[0] if len(self.data) == 1 else b"".join(self.data),
            )
        )

    def on_end(self) -> None:
        self.ended = True


def parse_form(body: bytes, parameters: str, *, max_parts: int) -> list[FormPart]:
    """The parts of a form, in order.

    Args:
        body: the whole body.
        parameters: what stands behind `multipart/form-data;` in the content type; Latin-1, as headers are.
        max_parts: more parts than this are refused.

    Raises:
        Unprocessable: no boundary, a broken form, a part with no name.
        TooLarge: too many parts.
    """
    _, options = parse_options_header(f"multipart/form-data;{parameters}")
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise invalid(
            "header.content-type",
            expected="multipart/form-data; boundary=...",
            got=shown(parameters.strip()),
            detail="the form's content type names no boundary",
        )
    collector = _FormCollector(max_parts)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.on_part_begin,
                "on_header_field": collector.on_header_field,
                "on_header_value": collector.on_header_value,
                "on_header_end": collector.on_header_end,
                "on_headers_finished": collector.on_headers_finished,
                "on_part_data": collector.on_part_data,
                "on_part_end": collector.on_part_end,
                "on_end": collector.on_end,
            },
        )
        parser.write(body[_preamble(body, boundary) :])
        parser.finalize()
    except FormParserError as error:
        raise _broken(str(error)) from None
    if not collector.ended:
        raise _broken(f"it ends after {len(collector.parts)} whole parts, before its closing boundary")
    return collector.parts


def _preamble(body: bytes, boundary: bytes) -> int:
    """Bytes before the first boundary, which mean nothing (RFC 2046, section 5.1.1)."""
    opening = b"--" + boundary
    if body.startswith((opening, b"\r\n" + opening)):
        return 0
    return max(body.find(b"\n" + opening) + 1, 0)


def _broken(why: str) -> ClientError:
    return invalid(
        "body", expected="multipart/form-data as in RFC 7578", got=shown(why), detail=f"the form cannot be read: {why}"
    )
