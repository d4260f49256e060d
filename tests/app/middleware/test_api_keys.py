"""API keys: who gets in, and that a wrong key takes the way of a missing one."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from app.codecs.images.files import encode_png
from app.core.manifest import MANIFEST_FILE
from app.middleware.api_keys import ApiKeys, is_protected, make_key, presented
from app.settings import Settings
from tests.app.live import LiveServer, grey, open_server
from tests.made_models import make_classifier_folder

PNG = encode_png(grey(100))
KEY, DIGEST = make_key()
OTHER, OTHER_DIGEST = make_key()


@pytest.fixture(scope="module")
def locked(models: Path) -> Iterator[LiveServer]:
    with open_server(models, only=("shades",), api_keys=(OTHER_DIGEST, DIGEST)) as opened:
        yield opened


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {OTHER}"},
        {"x_api_key": KEY},
        {"x_api_key": f" {KEY}\t"},
    ],
)
def test_a_known_key_opens(locked: LiveServer, headers: dict[str, str]) -> None:
    assert locked.send("image/png", PNG, **headers).status == 200
    assert locked.get("/metrics", **headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {DIGEST}"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer \xe9"},
        {"x_api_key": KEY[:-1]},
        {"x_api_key": ""},
    ],
)
def test_a_missing_and_a_wrong_key_get_the_same_answer(locked: LiveServer, headers: dict[str, str]) -> None:
    for reply in (locked.send("image/png", PNG, **headers), locked.get("/v1/nowhere", **headers)):
        told = reply.problem(401)
        assert reply.header("www-authenticate") == "Bearer"
        told.pop("request_id")
        assert told == {
            "type": "/errors/unauthorized",
            "title": "API key missing or not known",
            "status": 401,
            "detail": "this needs an API key, and none or an unknown one was given",
            "subject": "header.authorization",
            "expected": "Authorization: Bearer KEY, or X-API-Key: KEY",
        }


def test_under_the_open_inference_protocol_the_refusal_has_its_form(locked: LiveServer) -> None:
    reply = locked.get("/v2/models/shades")
    assert reply.status == 401
    assert reply.header("www-authenticate") == "Bearer"
    assert reply.json() == {"error": "this needs an API key, and none or an unknown one was given"}
    assert locked.get("/v2/models/shades", x_api_key=KEY).status == 200


def test_health_and_the_pages_stay_open(locked: LiveServer) -> None:
    for path in ("/", "/docs", "/openapi.json", "/health/live", "/health/ready"):
        assert locked.get(path).status == 200


def test_every_link_of_the_landing_page_opens_without_a_key(tmp_path: Path) -> None:
    folder = make_classifier_folder(tmp_path, "shades")
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("<p>how it was trained</p>", encoding="utf-8")
    manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest | {"report": "report/index.html"}), encoding="utf-8")
    with open_server(tmp_path, api_keys=(DIGEST,)) as locked:
        links = re.findall(r'href="([^"#]+)"', locked.get("/").body.decode())
        assert "v1/models/shades/report?version=1" in links
        for link in links:
            if not link.startswith("data:"):
                assert locked.get(f"/{link}").status == 200, link
        assert locked.get("/v1/models/shades").status == 401
        assert "security" not in locked.app.openapi()["paths"]["/v1/models/{name}/report"]["get"]


@pytest.mark.parametrize("path", ["/v1", "/v1/models", "/v1/classify", "/v2/health/live", "/metrics"])
def test_what_needs_a_key(path: str) -> None:
    assert is_protected(path)


@pytest.mark.parametrize("path", ["/", "/v10", "/v1/models/shades/report", "/health/live", "/docs", "/metricsx"])
def test_what_needs_none(path: str) -> None:
    assert not is_protected(path)


@pytest.mark.parametrize("key", [b"", b"wrong", KEY.encode(), OTHER.encode()], ids=["none", "wrong", "one", "other"])
def test_every_key_is_compared_with_every_digest_in_constant_time(key: bytes) -> None:
    async def nothing(*_: object) -> None: ...

    keys = ApiKeys(nothing, digests=[DIGEST, OTHER_DIGEST])
    with patch("app.middleware.api_keys.hmac.compare_digest", wraps=hmac.compare_digest) as compare:
        known = keys.knows(key)
    assert compare.call_count == 2
    assert known == (key in (KEY.encode(), OTHER.encode()))


def test_a_key_is_long_random_and_kept_as_its_digest_only() -> None:
    assert hashlib.sha256(KEY.encode()).hexdigest() == DIGEST
    assert KEY != OTHER
    assert len(KEY) > 40
    assert KEY not in repr(Settings(api_keys=(DIGEST,)))


def test_the_last_header_does_not_hide_a_missing_key() -> None:
    assert presented([(b"authorization", b"Basic abc"), (b"host", b"a")]) == b""


def test_the_document_says_what_needs_a_key(locked: LiveServer) -> None:
    document = locked.get("/openapi.json").json()
    assert document["paths"]["/v1/classify"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert "401" in document["paths"]["/v1/models"]["get"]["responses"]
    assert "security" not in document["paths"]["/health/live"]["get"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}


@pytest.mark.parametrize(
    "path", ["/metrics%0A", "/v2%0A", "/v1/models%0A", "/metrics%0a%0A", "//metrics", "/v2%0A?a=b"]
)
def test_no_spelling_of_a_path_opens_it_without_a_key(locked: LiveServer, path: str) -> None:
    assert locked.get(path).status in (401, 404)
    assert b"lectern_requests" not in locked.get(path).body
