"""Health, cards, report and pages: what is said about what is served."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from tests.app.live import DIGITS, LiveServer, grey, open_server, strokes
from tests.made_models import change_manifest, make_classifier_folder, make_coder_folder


def test_a_live_process_says_so(server: LiveServer) -> None:
    assert server.get("/health/live").json() == {"status": "alive"}


def test_readiness_names_what_is_served_and_what_was_refused(server: LiveServer) -> None:
    reported = server.get("/health/ready").json()
    assert (reported["status"], reported["device"]) == ("ready", "cpu")
    assert reported["models"] == ["digits/1", "digits/2", "shades/1"]
    assert reported["defaults"] == {"classify": "shades"}
    (refused,) = reported["refused"]
    assert refused["folder"] == "broken/1"
    assert "surprise" in refused["reason"]


def test_a_server_with_no_model_is_alive_and_not_ready(tmp_path: Path) -> None:
    with open_server(tmp_path) as server:
        assert server.get("/health/live").status == 200
        reply = server.get("/health/ready")
        assert (reply.status, reply.json()["status"]) == (503, "not ready")
        assert server.send("image/png", encode_png(grey(1))).problem(404)["subject"] == "model"
        assert server.get("/v1/models").json()["models"] == []
        assert server.get("/openapi.json").status == 200
        assert b"No model is loaded" in server.get("/").body


def test_the_list_of_models_has_each_with_its_device_and_the_refused_with_their_reasons(server: LiveServer) -> None:
    listed = server.get("/v1/models").json()
    assert [(m["name"], m["version"], m["device"], m["default"]) for m in listed["models"]] == [
        ("digits", "1", "cpu", False),
        ("digits", "2", "cpu", False),
        ("shades", "1", "cpu", True),
    ]
    assert [refused["folder"] for refused in listed["refused"]] == ["broken/1"]
    for model in listed["models"]:
        assert server.get(model["card"]).json()["version"] == model["version"]


def test_a_default_that_is_not_loaded_is_told_at_the_start_and_to_whoever_names_no_model(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_server(models, only=("shades",), default_models={"classify": "absent"}) as server:
        assert "default model classify=absent is not loaded, there is: shades" in caplog.text
        details = server.send("image/png", encode_png(grey(1))).problem(404)
        assert "absent" in details["detail"]
        assert "shades" in details["detail"]
        assert [m["default"] for m in server.get("/v1/models").json()["models"]] == [False]
        assert server.send("image/png", encode_png(grey(1)), "model=shades").status == 200


def test_without_a_set_default_the_first_model_of_the_task_answers_and_the_log_says_so(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), open_server(models) as server:
        answer = server.send("application/x-npy", encode_npy(strokes())).json()
        assert (answer["model"], answer["version"]) == ("digits", "2")
        assert "requests that name no model go to: classify=digits (not cnn-mnist)" in caplog.text
        assert server.get("/health/ready").json()["defaults"] == {"classify": "digits"}
        assert [m["default_for"] for m in server.get("/v1/models").json()["models"]] == [[], ["classify"], []]
        assert b"Answers <b>classify</b> where no model is named." in server.get("/").body


def test_a_model_without_a_prior_is_no_stand_in_for_one_that_draws(tmp_path: Path) -> None:
    make_coder_folder(tmp_path, "a-plain-one")
    make_coder_folder(tmp_path, "normal", prior=True)
    with open_server(tmp_path) as server:
        assert server.get("/health/ready").json()["defaults"] == {"reconstruct": "a-plain-one", "generate": "normal"}
        assert server.ask("POST", "/v1/generate?n=1").json()["model"] == "normal"
    with open_server(tmp_path, only=("a-plain-one",)) as server:
        assert "has no prior" in server.ask("POST", "/v1/generate?n=1").problem(422)["detail"]


def test_the_landing_page_has_the_figures_that_have_a_goal_in_words(tmp_path: Path) -> None:
    def measured(name: str, value: float, goal: float | None) -> dict[str, Any]:
        return {"name": name, "value": value, "protocol": "Once.", "rows": 9, "seeds": [0]} | (
            {} if goal is None else {"goal": goal}
        )

    quality = [measured("fd_ratio_16_pooled", 3.14159, None), measured("fd_ratio_16", 2.29664, 1.4)]
    change_manifest(make_classifier_folder(tmp_path), quality=quality)
    with open_server(tmp_path) as server:
        page = server.get("/").body.decode()
    assert "FD ratio, 16 evaluations <b>2.30</b> on 9 rows; goal at most 1.40: missed by 0.90" in page
    assert "pooled" not in page


def test_the_landing_page_has_a_line_a_model_by_task_with_the_default_first(server: LiveServer) -> None:
    page = server.get("/").body.decode()
    assert page.count("<section ") == page.count("<h2>Classify pictures</h2>") == 1
    assert re.findall(r"<summary><span><b>(\w+)</b><small>(/\d[^<]*)", page) == [
        ("shades", "/1 · default"),
        ("digits", "/1"),
        ("digits", "/2"),
    ]
    assert "<h2>Refused</h2><ul><li><strong>broken/1</strong>" in page


def test_the_landing_page_shows_first_what_the_default_model_answers(models: Path) -> None:
    with open_server(models, only=("digits",)) as server:
        shown, _, lines = server.get("/").body.decode().partition("<section ")
    assert shown.count('<img alt="given" src="data:image/png;base64,') == len(strokes())
    assert shown.count("<small>none</small>") == len(strokes())
    assert '<a href="#classify-image">' in shown
    assert lines.startswith('id="classify-image">')


def test_a_card_tells_what_a_model_is_and_what_it_has_done(server: LiveServer) -> None:
    before = server.get("/v1/models/shades").json()
    server.send("image/png", encode_png(grey(1)))
    card = server.get("/v1/models/shades").json()
    assert (card["name"], card["task"], card["device"], card["versions"]) == ("shades", "classify", "cpu", ["1"])
    assert card["picture"] == {
        "kind": "photo", "height": 32, "width": 32, "channels": 3, "layout": "hwc",
        "resize": "cover", "background": 255,
    }  # fmt: skip
    graph = card["graphs"]["classifier"]
    assert graph["inputs"] == [{"name": "image", "dtype": "uint8", "shape": ["rows", 32, 32, 3]}]
    assert graph["counters"]["rows"] == before["graphs"]["classifier"]["counters"]["rows"] + 1
    assert card["quality"][0]["protocol"] == "by its making"
    assert card["data"]["licence"] == "CC0-1.0"
    assert card["made"]["command"]
    assert card["report"] is None


def test_a_card_of_each_version_can_be_had(server: LiveServer) -> None:
    assert server.get("/v1/models/digits").json()["labels"] == list(DIGITS)
    first = server.get("/v1/models/digits?version=1").json()
    assert (first["labels"], first["versions"]) == (["paper", "ink"], ["1", "2"])


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1/models/digit", 404, "digits, shades"),
        ("/v1/models/broken", 404, "digits, shades"),
        ("/v1/models/digits?version=3", 404, "1, 2"),
        ("/v1/models/digits?vers=1", 422, "did you mean 'version'"),
        ("/v1/models/digits?version=1&version=2", 422, "more than once"),
        ("/v1/models?version=1", 422, "version"),
        ("/v1/models/..%2f..%2fetc", 404, ""),
        ("/v1/models/shades/report", 404, "no report"),
        ("/v1/models/digits/report?version=1", 404, "no report"),
    ],
)
def test_what_there_is_not_is_named_with_what_there_is(server: LiveServer, path: str, status: int, word: str) -> None:
    assert word in server.get(path).problem(status)["detail"]


@pytest.mark.parametrize("linked", ["the file", "its folder"])
def test_a_report_that_is_a_link_is_not_followed(tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "index.html").write_text("a secret", encoding="utf-8")
    folder = make_classifier_folder(tmp_path / "models", "linked")
    change_manifest(folder, report="report/index.html")
    if linked == "the file":
        (folder / "report").mkdir()
        (folder / "report" / "index.html").symlink_to(outside / "index.html")
    else:
        (folder / "report").symlink_to(outside)
    with open_server(tmp_path / "models") as server:
        assert server.get("/v1/models/linked").status == 200
        assert "no report" in server.get("/v1/models/linked/report").problem(404)["detail"]


def test_a_report_is_shown_and_can_do_nothing(server: LiveServer) -> None:
    reply = server.get(server.get("/v1/models/digits").json()["report"])
    assert b"a report" in reply.body
    policy = reply.header("content-security-policy") or ""
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "script" not in policy


def test_a_report_links_other_reports_where_they_are_served(tmp_path: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        folder = make_classifier_folder(tmp_path, name)
        change_manifest(folder, report="report/index.html")
        (folder / "report").mkdir()
        page = f'<a href="../../../{other}/1/report/index.html">{other}</a>'
        (folder / "report" / "index.html").write_text(page, encoding="utf-8")
    with open_server(tmp_path) as server:
        link = re.search('href="(.*)"', server.get("/v1/models/one/report").body.decode())
        assert link
        assert server.get(urljoin("/v1/models/one/report", link[1])).body.startswith(b'<a href="../one/report')


class Addresses(HTMLParser):
    """What a page asks for, and whether a script is inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.inline = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.asked += [value for key in ("src", "href", "data-document") if (value := named.get(key))]
        self.inline |= tag == "script" and "src" not in named
        self.inline |= any(key.startswith("on") for key in named)


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_a_page_asks_only_this_server_and_has_no_script_inside(server: LiveServer, path: str) -> None:
    reply = server.get(path)
    page = Addresses()
    page.feed(reply.body.decode())
    assert not page.inline
    assert page.asked
    for address in page.asked:
        if address.startswith("data:"):
            continue
        assert "//" not in address
        assert server.get("/" + address).status == 200
    policy = reply.header("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy


def test_the_scripts_of_the_pages_are_served_and_nothing_else(server: LiveServer) -> None:
    for name, least in (
        ("swagger-ui-bundle.js", 1 << 20),
        ("redoc.standalone.js", 1 << 19),
        ("swagger-ui.css", 1 << 16),
    ):
        reply = server.get(f"/static/{name}")
        assert len(reply.body) > least
        assert b"cdn.redoc.ly" not in reply.body
    for name in ("", "..%2fmain.py", "docs.html", "%2fetc%2fpasswd", "page.css%00"):
        server.get(f"/static/{name}").problem(404)


def test_the_documentation_can_be_turned_off(models: Path) -> None:
    with open_server(models, only=("shades",), docs=False) as server:
        for path in ("/docs", "/redoc", "/openapi.json"):
            server.get(path).problem(404)
        assert b"openapi.json" not in server.get("/").body
