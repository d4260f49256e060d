"""POST /translate and GET /languages, asked by the unmodified client `libretranslatepy` and in every form."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from libretranslatepy import LibreTranslateAPI

from app.middleware.api_keys import make_key
from app.web.request.json_size import SMALL_BYTES
from tests.app.live import LiveServer, Reply, form, open_server
from tests.app.texts import make_turner, make_writers

JSON, URL_ENCODED = "application/json", "application/x-www-form-urlencoded"
TEXT = "the man sees the dog"


def ours(server: LiveServer, text: str, **options: Any) -> list[dict[str, Any]]:
    """The results of /v1/translate."""
    body = json.dumps({"text": text, **options}).encode()
    found: list[dict[str, Any]] = server.ask("POST", "/v1/translate", body, {"Content-Type": JSON}).json()["results"]
    return found


def ask(server: LiveServer, kind: str = JSON, body: bytes | None = None, **values: Any) -> Reply:
    sent = {"q": TEXT, "source": "en", "target": "pt"} | values
    return server.ask("POST", "/translate", json.dumps(sent).encode() if body is None else body, {"Content-Type": kind})


def test_the_client_translates_and_lists_the_languages(writers: LiveServer) -> None:
    client = LibreTranslateAPI(writers.url)
    assert client.translate(TEXT, "en", "pt") == ours(writers, TEXT)[0]["text"]
    assert client.translate(TEXT, "de", "en") == ours(writers, TEXT, model="wide")[0]["text"]
    assert client.languages() == [
        {"code": "de", "name": "German", "targets": ["en"]},
        {"code": "en", "name": "English", "targets": ["pt"]},
    ]


def test_the_client_is_told_what_is_wrong(writers: LiveServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        LibreTranslateAPI(writers.url).translate(TEXT, "en", "fr")
    assert error.value.code == 400
    assert "'fr'" in json.loads(error.value.read())["error"]


def test_a_list_gets_a_list_and_alternatives_are_those_of_n_best(writers: LiveServer) -> None:
    texts = [TEXT, "red train"]
    plain = [ours(writers, text, to="pt")[0]["text"] for text in texts]
    assert ask(writers, q=texts).json() == {"translatedText": plain}
    best = ours(writers, TEXT, n_best=3)[0]
    others = [one["text"] for one in best["alternatives"]]
    assert len(others) == 2
    assert ask(writers, alternatives=2).json() == {"translatedText": best["text"], "alternatives": others}
    assert ask(writers, q=[TEXT], alternatives=2).json() == {"translatedText": [best["text"]], "alternatives": [others]}


def test_texts_may_be_full_of_colons(writers: LiveServer) -> None:
    sent = ask(writers, q=["the dog" + ":" * 100] * 20, api_key="k" * SMALL_BYTES)
    assert (sent.status, len(sent.json()["translatedText"])) == (200, 20)


def test_every_form_of_a_body_gives_the_same(writers: LiveServer) -> None:
    want = ask(writers, q="the cão").json()
    fields = {"q": "the cão", "source": "en", "target": "pt", "format": "text", "api_key": "mine"}
    assert ask(writers, URL_ENCODED, urlencode(fields).encode()).json() == want
    raw = "q=the cão&source=en&target=pt"  # as curl -d sends it
    assert ask(writers, URL_ENCODED, raw.encode()).json() == want
    kind, body = form(*((name, text.encode()) for name, text in fields.items()))
    assert ask(writers, kind, body).json() == want
    kind, body = form(("q", b"the dog"), ("q", b"red"), ("source", b"en"), ("target", b"pt"))
    assert ask(writers, kind, body).json() == ask(writers, q=["the dog", "red"]).json()


def test_a_form_that_is_not_utf8_is_refused_and_not_mended(writers: LiveServer) -> None:
    said = {"error": "q: is not UTF-8: byte 0xe9 at 3"}
    for text in (b"caf%E9", b"caf\xe9"):
        assert ask(writers, URL_ENCODED, b"q=%b&source=en&target=pt" % text).json() == said
    kind, body = form(("q", b"caf\xe9"), ("source", b"en"), ("target", b"pt"))
    assert (ask(writers, kind, body).status, ask(writers, kind, body).json()) == (400, said)
    reply = ask(writers, URL_ENCODED, b"q=the&q=caf%E9&source=en&target=pt")
    assert reply.json() == {"error": "q[1]: is not UTF-8: byte 0xe9 at 3"}


def test_auto_is_the_only_language_that_leads_there(writers: LiveServer, tmp_path: Path) -> None:
    assert ask(writers, source="auto").json() == ask(writers).json()
    assert ask(writers, source="auto", target="pt-BR").json() == ask(writers).json()
    assert "'xx'" in ask(writers, source="auto", target="xx").json()["error"]
    make_turner(tmp_path)
    make_turner(tmp_path, "other", languages=("fr", "pt"))
    with open_server(tmp_path) as server:
        reply = ask(server, source="auto")
    assert reply.status == 400
    assert "no language is detected, and to 'pt' is translated from en, fr" in reply.json()["error"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown language": ({"source": "ja"}, "'ja'"),
    "a pair that nothing translates": ({"source": "de"}, "nothing translates from 'de' to 'pt'"),
    "markup": ({"format": "html"}, "body.format is 'html', it must be 'text'"),
    "no text": ({"q": ""}, "q"),
    "no texts": ({"q": []}, "q is an empty list"),
    "a number": ({"q": 5}, "q is 5, it must be a text"),
    "null": ({"q": None}, "q is null, it must be a text"),
    "a number in a list": ({"q": ["a", 5]}, "q[1] is 5, it must be a text"),
    "a list in a list": ({"q": [["a"]]}, "q[0] is a list of 1, it must be a text"),
    "too many alternatives": ({"alternatives": 99}, "body.alternatives"),
    "more alternatives than the model has": (
        {"alternatives": 4},
        "alternatives is 4, it must be 0 to 3 for model 'turner'",
    ),
    "a field that there is not": ({"quelle": "en"}, "'quelle'"),
    "a lone surrogate": ({"q": "a\ud800"}, "the body is not JSON"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_the_form_of_the_protocol(writers: LiveServer, case: str) -> None:
    values, said = WRONG[case]
    reply = ask(writers, **values)
    assert (reply.status, set(reply.json())) == (400, {"error"})
    assert said in reply.json()["error"]


def test_limits_and_the_framework_answer_in_the_form_of_the_protocol(writers: LiveServer) -> None:
    many = ask(writers, q=[TEXT] * 21)
    assert (many.status, many.json()) == (413, {"error": "q has 21 texts, at most 20 are taken"})
    assert (
        ask(writers, "application/pdf", b"x").json()["error"].startswith("content type 'application/pdf' is not taken")
    )
    assert ask(writers, URL_ENCODED, b"q=a&source=en").json() == {"error": "form.target is missing"}
    assert ask(writers, URL_ENCODED, b"q=a&source=en&source=de&target=pt").status == 400
    wrong = writers.ask("GET", "/translate")
    assert (wrong.status, wrong.json()) == (405, {"error": "'/translate' takes POST, not GET"})


def test_the_document_has_both_paths_with_what_they_answer(writers: LiveServer) -> None:
    document = writers.get("/openapi.json").json()
    operation = document["paths"]["/translate"]["post"]
    assert set(operation["requestBody"]["content"]) == {JSON, URL_ENCODED, "multipart/form-data"}
    assert "401" not in operation["responses"]
    examples = operation["requestBody"]["content"][JSON]["examples"]
    assert set(examples) == {"en to pt", "de to en"}
    assert {ask(writers, **example["value"]).status for example in examples.values()} == {200}
    assert set(document["paths"]["/languages"]["get"]["responses"]) == {"200", "500", "503"}


def test_where_keys_are_set_both_need_one(tmp_path: Path) -> None:
    make_writers(tmp_path)
    key, digest = make_key()
    with open_server(tmp_path, api_keys=(digest,), only=("turner",)) as server:
        for method, path in (("GET", "/languages"), ("POST", "/translate")):
            refused = server.ask(method, path)
            assert (refused.status, set(refused.json())) == (401, {"error"})
        assert server.get("/languages", X_API_Key=key).status == 200
