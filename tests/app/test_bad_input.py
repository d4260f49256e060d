"""Bad input: each gets its own status and is told what was expected and what came. Never a 500, never a trace.

One long file: a test for each row of the table of what may come.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from tests.app.coders import NPY
from tests.app.live import LiveServer, form, grey

PIXELS = grey(170)
PNG = encode_png(PIXELS)
TEXT = base64.b64encode(PNG).decode()
ROWS = encode_npy(PIXELS[None])
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG's head that claims a size, with whatever data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def animated(form: str) -> bytes:
    frames = [Image.fromarray(grey(level)) for level in (0, 255)]
    out = io.BytesIO()
    frames[0].save(out, form, save_all=True, append_images=frames[1:], duration=50)
    return out.getvalue()


def as_json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()


def nested(change: Callable[[Any], Any]) -> tuple[str, bytes]:
    pixels: Any = PIXELS.tolist()
    change(pixels)
    return as_json({"image": pixels})


def put(value: Any) -> Callable[[Any], Any]:
    return lambda pixels: pixels[3][5].__setitem__(1, value)


# name -> (content type, body, status, words that the answer must have, subject)
CASES: dict[str, tuple[str, bytes, int, tuple[str, ...], str | None]] = {
    # pictures
    "not an image": ("image/png", b"hello, this is text", 415, ("PNG",), "body"),
    "an image cut off": ("image/png", PNG[: len(PNG) // 2], 422, ("cut off",), "body"),
    "only an image's signature": ("image/png", PNG[:8], 422, ("cut off",), "body"),
    "an SVG": ("image/png", SVG, 415, ("SVG",), "body"),
    "an SVG that says so": ("image/svg+xml", SVG, 415, ("image/png",), "header.content-type"),
    "a decompression bomb": (
        "image/png",
        png_of(30_000, 30_000, zlib.compress(bytes(900_000))),
        413,
        ("4000000",),
        "body",
    ),
    "30,000 x 30,000 pixels": ("image/png", png_of(30_000, 30_000), 413, ("30000x30000",), "body"),
    "1 x 1 pixel": ("image/png", encode_png(grey(9, 1)), 422, ("1x1",), "body"),
    "an animated GIF": ("image/gif", animated("GIF"), 422, ("2",), "body"),
    "an animated WebP": ("image/webp", animated("WEBP"), 422, ("2",), "body"),
    "the second file of a form broken": (
        *form(("image", PNG, "a"), ("image", PNG[:50], "b")),
        422,
        ("cut off",),
        "image[1]",
    ),
    "base64 of no image": (*as_json({"image": base64.b64encode(b"text").decode()}), 415, (), "body.image"),
    "no base64": (*as_json({"image": "***"}), 422, ("base64",), "body.image"),
    "no base64 in a list": (*as_json({"images": [TEXT, "***"]}), 422, ("base64",), "body.images[1]"),
    # nested pixels
    "ragged lists": (*nested(lambda p: p[3].pop()), 422, ("31",), "body.image[3]"),
    "pixels of another size": (*as_json({"image": [[0, 0], [0, 0]]}), 422, ("32",), "body.image"),
    "grey pixels for a colour model": (
        *as_json({"image": PIXELS[:, :, 0].tolist()}),
        422,
        ("3 channels",),
        "body.image[0][0]",
    ),
    "a number as a text": (*nested(put("7")), 422, ("'7'",), "body.image[3][5][1]"),
    "a pixel of 256": (*nested(put(256)), 422, ("256",), "body.image[3][5][1]"),
    "a pixel below 0": (*nested(put(-1)), 422, ("-1",), "body.image[3][5][1]"),
    "half a grey level": (*nested(put(0.5)), 422, ("0.5",), "body.image[3][5][1]"),
    "a boolean pixel": (*nested(put(True)), 422, ("whole number",), "body.image[3][5][1]"),
    "a null pixel": (*nested(put(None)), 422, ("whole number",), "body.image[3][5][1]"),
    "NaN": (*nested(put(float("nan"))), 422, ("nan",), "body.image[3][5][1]"),
    "infinity": (*nested(put(float("inf"))), 422, ("inf",), "body.image[3][5][1]"),
    "an integer of 400 digits": (*nested(put(10**400)), 422, ("whole number",), "body.image[3][5][1]"),
    "an integer of 9000 digits": ("application/json", b'{"image": [[' + b"9" * 9000 + b"]]}", 422, (), None),
    "an object as a picture": (*as_json({"image": {"a": 1}}), 422, ("base64", "object"), "body.image"),
    "a number as a picture": (*as_json({"image": 5}), 422, ("base64", "5"), "body.image"),
    "null as a picture": (*as_json({"image": None}), 422, ("base64", "null"), "body.image"),
    "null among pictures": (*as_json({"images": [TEXT, None]}), 422, ("null",), "body.images[1]"),
    # JSON
    "a megabyte of brackets": ("application/json", b"[" * (1 << 20), 422, ("JSON",), "body"),
    "brackets in a picture": ("application/json", b'{"image": ' + b"[" * 100_000, 422, ("JSON",), "body"),
    "closed brackets in a picture": (
        "application/json",
        b'{"image": ' + b"[" * 150 + b"]" * 150 + b"}",
        422,
        (),
        "body.image",
    ),
    "no JSON": ("application/json", b"{'image': 1}", 422, ("line 1 column 2",), "body"),
    "JSON cut off": ("application/json", b'{"image": [[1, 2', 422, ("JSON",), "body"),
    "two JSON values": ("application/json", b'{"image": "a"} {"image": "b"}', 422, ("JSON",), "body"),
    "JSON that is not UTF-8": ("application/json", b'{"image": "\xff\xfe"}', 422, ("JSON",), "body"),
    "a lone surrogate": ("application/json", b'{"image": "\\ud800"}', 422, (), None),
    "a list, not an object": ("application/json", b"[1]", 422, ("object", "image"), "body"),
    "null, not an object": ("application/json", b"null", 422, ("object",), "body"),
    "an empty object": ("application/json", b"{}", 422, ("exactly one of image, images, instances",), "body.image"),
    "two bodies": (
        *as_json({"image": TEXT, "images": [TEXT]}),
        422,
        ("exactly one of image, images, instances",),
        "body.images",
    ),
    "one field twice": ("application/json", b'{"image": "a", "image" : "b"}', 422, ("more than once",), "body.image"),
    "no pictures in the list": (*as_json({"images": []}), 422, ("images",), "body.images"),
    "one picture where a list belongs": (*as_json({"images": TEXT}), 422, ("list",), "body.images"),
    "an unknown field": (
        *as_json({"image": TEXT, "topk": 1}),
        422,
        ("did you mean 'top_k'", "image, images"),
        "body.topk",
    ),
    "a field with line breaks in its name": (*as_json({"image": TEXT, "a\r\nb": 1}), 422, ("unknown",), None),
    "top_k as a text": (*as_json({"image": TEXT, "top_k": "3"}), 422, ("integer", "'3'"), "body.top_k"),
    "top_k as a fraction": (*as_json({"image": TEXT, "top_k": 1.5}), 422, ("integer", "1.5"), "body.top_k"),
    "top_k as a boolean": (*as_json({"image": TEXT, "top_k": True}), 422, ("integer", "true"), "body.top_k"),
    "top_k 0": (*as_json({"image": TEXT, "top_k": 0}), 422, ("1 to 10",), "top_k"),
    "top_k a billion": (*as_json({"image": TEXT, "top_k": 10**9}), 422, ("1 to 10", "1000000000"), "top_k"),
    "a model that is a number": (*as_json({"image": TEXT, "model": 7}), 422, ("text", "7"), "body.model"),
    "an unknown model": (*as_json({"image": TEXT, "model": "shade"}), 404, ("shades", "digits"), "model"),
    "an unknown version": (*as_json({"image": TEXT, "model": "digits", "version": "9"}), 404, ("1, 2",), "version"),
    "a refused model": (*as_json({"image": TEXT, "model": "broken"}), 404, ("shades",), "model"),
    "more pictures than the limit": (*as_json({"images": [TEXT] * 21}), 413, ("20", "21"), "images"),
    "a hundred thousand numbers": (
        "application/json",
        b'{"image": [' + b"1," * 100_000 + b"1]}",
        413,
        ("62440",),
        "body",
    ),
    "a hundred thousand lists": (
        "application/json",
        b'{"image": [' + b"[]," * 100_000 + b"[]]}",
        413,
        ("62440",),
        "body",
    ),
    "a hundred thousand fields": (
        "application/json",
        b"{" + b",".join(b'"a%d":1' % i for i in range(50_000)) + b"}",
        413,
        ("1020 fields",),
        "body",
    ),
    # forms
    "a form with no boundary": ("multipart/form-data", b"x", 422, ("boundary",), "header.content-type"),
    "a form that is none": ("multipart/form-data; boundary=b", b"hello", 422, ("form",), "body"),
    "a form cut off": (form()[0], form(("image", PNG, "a"))[1][:-40], 422, ("closing boundary",), "body"),
    "a form with no picture": (*form(("model", b"shades")), 422, ("no picture",), "form.image"),
    "a form with an empty picture": (*form(("image", b"", "a.png")), 422, ("empty",), "image[0]"),
    "an unknown form field": (
        *form(("image", PNG, "a"), ("pitcure", b"1")),
        422,
        ("unknown form field",),
        "form.pitcure",
    ),
    "a form option twice": (
        *form(("image", PNG, "a"), ("top_k", b"1"), ("top_k", b"2")),
        422,
        ("more than once",),
        "form.top_k",
    ),
    "a form option of no number": (
        *form(("image", PNG, "a"), ("top_k", b"many")),
        422,
        ("whole number",),
        "form.top_k",
    ),
    "a part with no name": (
        "multipart/form-data; boundary=b",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        422,
        ("no name",),
        "form.part[0]",
    ),
    "more files than the limit": (*form(*[("image", PNG, "a")] * 21), 413, ("20", "21"), "images"),
    "a thousand form fields": (*form(*[("model", b"a")] * 1000), 413, ("parts",), "body"),
    # rows
    "npy of another shape": (NPY, encode_npy(np.zeros((1, 9, 9, 3), np.uint8)), 422, ("32",), "body"),
    "npy of floats": (NPY, encode_npy(np.zeros((1, 32, 32, 3), np.float32)), 422, ("float32", "uint8"), "body"),
    "npy of NaN": (NPY, encode_npy(np.full((1, 32, 32, 3), np.nan)), 422, ("uint8",), "body"),
    "npy of objects": (NPY, ROWS.replace(b"|u1", b"|O8"), 422, ("|O8",), "body"),
    "npy cut off": (NPY, ROWS[:-1], 422, ("cut off",), "body"),
    "no rows": (NPY, encode_npy(np.zeros((0, 32, 32, 3), np.uint8)), 422, ("no rows",), "body"),
    "more rows than the limit": (NPY, encode_npy(np.zeros((21, 32, 32, 3), np.uint8)), 413, ("20", "21"), "body"),
    "a picture that says it is npy": (NPY, PNG, 415, ("npy",), "body"),
    # the body itself
    "no body": ("image/png", b"", 422, ("no body",), "body"),
    "no body and no type": ("", b"", 422, ("no body",), "body"),
    "a body of no type": ("", PNG, 415, ("image/png",), "header.content-type"),
    "a wrong content type": ("application/pdf", PNG, 415, ("image/png", "application/pdf"), "header.content-type"),
    "what curl sends by itself": (
        "application/x-www-form-urlencoded",
        PNG,
        415,
        ("-H 'Content-Type",),
        "header.content-type",
    ),
    "more bytes than the limit": ("image/png", bytes((1 << 20) + 1), 413, (str(1 << 20),), "body"),
}


@pytest.mark.parametrize(("kind", "body", "status", "words", "subject"), CASES.values(), ids=CASES.keys())
def test_what_cannot_be_read_is_told_apart_and_named(
    server: LiveServer, kind: str, body: bytes, status: int, words: tuple[str, ...], subject: str | None
) -> None:
    reply = server.ask("POST", "/v1/classify", body, {"Content-Type": kind} if kind else {})
    details = reply.assert_refused(status, subject, words)
    assert details["expected"] or details["got"]
    assert len(reply.body) < 3000
    assert b"Traceback" not in reply.body


QUERIES = {
    "an unknown parameter": ("topk=1", 422, "query.topk", "did you mean 'top_k'"),
    "a parameter with two values": ("top_k=1&top_k=2", 422, "query.top_k", "more than once"),
    "no number": ("top_k=1.0", 422, "query.top_k", "whole number"),
    "an empty number": ("top_k=", 422, "query.top_k", "whole number"),
    "0": ("top_k=0", 422, "top_k", "1 to 10"),
    "a billion": ("top_k=1000000000", 422, "top_k", "1 to 10"),
    "more digits than a number has": ("top_k=" + "9" * 5000, 422, "query.top_k", "whole number"),
    "an unknown model": ("model=shade", 404, "model", "digits, shades"),
    "an empty model": ("model=", 404, "model", "digits, shades"),
    "a model with a line break": ("model=a%0d%0aX-Evil:%201", 404, "model", "digits, shades"),
    "an unknown version": ("model=digits&version=01", 404, "version", "1, 2"),
    "a version that the default has not": ("version=2", 404, "version", "1"),
    "a thousand parameters": ("&".join(f"a{i}=1" for i in range(1000)), 422, "query", "100"),
    "bytes that are no text": ("model=%ff%fe", 404, "model", "digits, shades"),
}


@pytest.mark.parametrize(("query", "status", "subject", "word"), QUERIES.values(), ids=QUERIES.keys())
def test_a_wrong_query_is_named_with_what_exists(
    server: LiveServer, query: str, status: int, subject: str, word: str
) -> None:
    details = server.send("image/png", PNG, query).problem(status)
    assert details["subject"] == subject
    assert word in details["detail"]


def test_an_option_in_two_places_has_one_value(server: LiveServer) -> None:
    assert server.send_json({"image": TEXT, "top_k": 1}, "top_k=2").problem(422)["subject"] == "body.top_k"
    assert (
        server.send_form(("image", PNG, "a"), ("top_k", b"1"), query="top_k=2").problem(422)["subject"] == "form.top_k"
    )
    for reply in (
        server.send_json({"image": TEXT, "top_k": 1}, "top_k=1"),
        server.send_form(("image", PNG, "a"), ("top_k", b"1"), ("model", b""), query="top_k=1&top_k=1"),
    ):
        assert len(reply.json()["results"][0]["top_k"]) == 1


def test_top_k_has_no_meaning_for_rows_of_probabilities(server: LiveServer) -> None:
    details = server.send("image/png", PNG, "top_k=1", accept="application/x-npy").problem(422)
    assert details["subject"] == "top_k"


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "application/json;q=0", "nonsense"])
def test_an_answer_of_another_form_is_not_given(server: LiveServer, accept: str) -> None:
    details = server.send("image/png", PNG, accept=accept).problem(406)
    assert "application/x-npy" in details["expected"]


def test_a_compressed_body_is_not_taken(server: LiveServer) -> None:
    details = server.send("image/png", zlib.compress(PNG), content_encoding="gzip").problem(415)
    assert details["expected"] == "identity"


def test_a_body_in_pieces_is_counted_while_it_comes(server: LiveServer) -> None:
    pieces = itertools.repeat(bytes(64 << 10), 17)
    details = server.ask("POST", "/v1/classify", pieces, {"Content-Type": "image/png"}).problem(413)
    assert details["expected"] == f"at most {1 << 20} bytes"


def test_a_client_that_sends_far_too_much_still_reads_its_answer(server: LiveServer) -> None:
    details = server.ask("POST", "/v1/classify", bytes(20 << 20), {"Content-Type": "image/png"}).problem(413)
    assert details["got"] == f"{20 << 20} bytes"


def test_a_small_body_in_pieces_is_read(server: LiveServer) -> None:
    pieces = iter([PNG[:10], PNG[10:]])
    assert server.ask("POST", "/v1/classify", pieces, {"Content-Type": "image/png"}).status == 200


def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read(server: LiveServer) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 99999999999\r\n\r\n"
    reply = server.raw(head, close=False)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"99999999999 bytes" in reply


def test_a_body_that_stops_half_way_is_told_so_in_time(server: LiveServer) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nhalf"
    reply = server.raw(head, close=False)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in reply


def test_a_header_given_twice_is_refused(server: LiveServer) -> None:
    head = (
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: image/png\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    reply = server.raw(head)
    assert reply.startswith(b"HTTP/1.1 422 ")
    assert b"header.content-type" in reply


@pytest.mark.parametrize(
    "request_",
    [
        b"hello\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["no HTTP", "a length below 0", "a length of no number", "chunks of no number"],
)
def test_what_is_not_http_ends_in_a_400_or_a_closed_line(server: LiveServer, request_: bytes) -> None:
    reply = server.raw(request_)
    assert reply == b"" or reply.startswith(b"HTTP/1.1 400 ")
    assert b"Traceback" not in reply
    assert server.get("/health/live").status == 200


@pytest.mark.parametrize(
    "line",
    [
        "GET / HTTP/1.1\r\nHost: [::1",
        'GET / HTTP/1.1\r\nHost: "><script>alert(1)</script>',
        "GET / HTTP/1.0",
        "GET http://elsewhere.example/v1/models HTTP/1.1\r\nHost: a",
        "OPTIONS * HTTP/1.1\r\nHost: a",
        "GET /v1/models/%00 HTTP/1.1\r\nHost: a",
        "GET /v1/models/%ff%fe HTTP/1.1\r\nHost: a",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: a",
        "GET /v1/models?%ff=%fe HTTP/1.1\r\nHost: a",
        "GET /v1/models HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade",
        "GET /v1/models HTTP/1.1\r\nHost: a\r\nAccept: \xff\xfe",
        "POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAccept: ,;q=x,/;q=nan",
        "POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Type: ;;;\xff",
    ],
)
def test_strange_heads_are_never_our_failure(server: LiveServer, line: str) -> None:
    close = "" if "upgrade" in line.lower() else "Connection: close\r\n"
    reply = server.raw(f"{line}\r\n{close}\r\n".encode("latin-1"), close="upgrade" in line.lower())
    assert not reply.startswith(b"HTTP/1.1 5")
    assert b"<script>" not in reply
    assert b"Traceback" not in reply


def test_clients_that_hang_up_in_the_middle_leave_the_server_well(server: LiveServer) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nhalf"
    for _ in range(5):
        server.raw(head)
    assert server.send("image/png", PNG).status == 200


def test_as_many_pictures_as_the_limit_are_taken(server: LiveServer) -> None:
    assert len(server.send_form(*[("image", PNG, "a")] * 20).json()["results"]) == 20
