"""The fast path past the router answers as the router does, request by request, and counts and refuses the same.

Every task and both patterns of the protocol are asked in every form of body and of answer, and for each kind of error.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from app.core.manifest.table import CategoryColumn
from app.web.fast_path import FastPath
from app.web.request.media_types import SRT, TEXT, VTT
from tests.app import denoisers, translators
from tests.app.coders import ERRORS
from tests.app.drawers import LATENT, SMALL, make_denoiser_folder, make_generator_folder
from tests.app.live import SHADES, LiveServer, open_server
from tests.app.live import form as sound_form
from tests.bench.differences import differences
from tests.bench.recorded import (
    CSV,
    EVENTS,
    FORM,
    NPY,
    PNG,
    Recorded,
    address,
    form,
    npy,
    picture,
    pictures,
    refused,
    text,
    typed,
    wrong_pictures,
)
from tests.bench.recorded_protocol import Tensors, as_json, binary, infer, of_protocol
from tests.bench.recorded_protocol import refused as refused_by_protocol
from tests.bench.same import ask, is_named
from tests.bench.shapes import HEADER_LENGTH, JSON, dense
from tests.made_models import PHOTO, make_classifier_folder, make_coder_folder
from tests.made_sounds import make_hearer_folder, sound_of, wav
from tests.made_tables import TABLE, make_grey_folder, make_regressor_folder, make_table_classifier_folder

ROWS: Final = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
NOISY: Final = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1), np.uint8)
PERSON: Final[dict[str, Any]] = {"lectures": 4, "hours": "5 h", "course": "morning"}
PEOPLE: Final[list[Any]] = [PERSON, {"lectures": 99, "hours": None, "course": "online"}]
RAW: Final = {HEADER_LENGTH: "0"}
MOST: Final = 40  # rows in one request
JSON_TYPE: Final = "application/json"

ROUTES: Final = {
    **{
        f"/v1/{task}": f"/v1/{task}"
        for task in ("classify", "regress", "reconstruct", "generate", "denoise", "translate", "transcribe")
    },
    "/v1/audio/transcriptions": "/v1/audio/transcriptions",
    infer("shades"): "/v2/models/{name}/infer",
    infer("shades", "1"): "/v2/models/{name}/versions/{version}/infer",
}


def make_one_of_each(root: Path) -> None:
    """A model of every kind, and the defaults below."""
    make_classifier_folder(root, "shades", labels=SHADES, picture=PHOTO)
    make_table_classifier_folder(root)
    make_regressor_folder(root)
    make_grey_folder(root)
    make_coder_folder(root, "plain", errors=ERRORS)
    make_coder_folder(root, "normal", prior=True)
    make_denoiser_folder(root, "guided")
    make_generator_folder(root, "kinds")
    denoisers.make_drawer_folder(root, "gauss", denoisers.PICTURE)
    denoisers.make_plane_folder(root, "blur", denoisers.blur())
    domains = {"positive": translators.SMALL, "negative": translators.SMALL}
    translators.make_folder(root, "inverter", domains, translators.inverter())
    make_hearer_folder(root)


DEFAULTS: Final = {
    "classify": "shades", "classify.table": "pass", "regress": "grade", "reconstruct": "plain", "generate": "guided",
    "denoise": "gauss", "translate": "inverter", "transcribe": "hearer",
}  # fmt: skip


def untaken(requests: Iterable[Recorded]) -> Iterator[Recorded]:
    """As they are for a task that takes texts: there, plain text is a media type that is taken."""
    for one in requests:
        headers = dict(one.headers)
        if headers.get("Content-Type") == "text/plain":
            headers["Content-Type"] = "application/pdf"
        yield replace(one, headers=headers)


def classify() -> Iterator[Recorded]:
    path, file = "/v1/classify", picture(ROWS[0])
    yield from pictures(path, ROWS[:2], model="shades")
    yield from wrong_pictures(path, ROWS[:2])
    yield from untaken(refused(path, file, typed(PNG), other="plain"))
    for accept in (JSON_TYPE, NPY, CSV, "text/*;q=0.5, application/json;q=0.4", "*/*"):
        yield Recorded(f"pictures, {accept}", path, npy(ROWS), typed(NPY, accept))
    yield Recorded("top_k", address(path, top_k=2), file, typed(PNG))
    yield Recorded("top_k of 0", address(path, top_k=0), file, typed(PNG), 422)
    yield Recorded("top_k of CSV", address(path, top_k=2), file, typed(PNG, CSV), 422)
    yield Recorded("top_k in query and form", address(path, top_k=2), form(file, top_k="1"), typed(FORM), 422)
    yield Recorded("too many rows", path, npy(np.zeros((MOST + 1, 32, 32, 3), np.uint8)), typed(NPY), 413)
    yield Recorded("more rows than one run has", path, npy(np.tile(ROWS, (9, 1, 1, 1))), typed(NPY))
    yield from rows_of_a_table(path, "pass")


def regress() -> Iterator[Recorded]:
    path = "/v1/regress"
    body = dense({"instances": PEOPLE})
    yield from pictures(path, ROWS[:2], model="grey")
    yield from wrong_pictures(path, ROWS[:2], model="grey")
    yield from refused(path, body, JSON, other="plain")
    yield from rows_of_a_table(path, "grade")
    for coverage, status in ((0.8, 200), (1.5, 422), ("nan", 422), ("most", 422)):
        yield Recorded(f"coverage {coverage}", address(path, coverage=coverage), body, JSON, status)
    yield Recorded("coverage in JSON", path, dense({"instances": PEOPLE, "coverage": 0.7}), JSON)
    yield Recorded("coverage without scores", address(path, model="grey", coverage=0.8), npy(ROWS), typed(NPY), 422)


def rows_of_a_table(path: str, model: str) -> Iterator[Recorded]:
    csv = b"course;hours [h];lectures\r\nmorning;5;4\r\nonline;;12\r\n"
    for accept in (JSON_TYPE, NPY, CSV):
        yield Recorded(f"rows by name, {accept}", path, dense({"instances": PEOPLE}), typed(JSON_TYPE, accept))
        yield Recorded(f"rows as CSV, {accept}", path, csv, typed(CSV, accept))
        numbers = np.array([[4, 5, 0], [12, np.nan, 2]], np.float32)
        yield Recorded(f"rows as npy, {accept}", address(path, model=model), npy(numbers), typed(NPY, accept))
    yield Recorded("rows by place", path, dense({"instances": [list(PERSON.values())], "model": model}), JSON)
    (course,) = (column for column in TABLE.columns if isinstance(column, CategoryColumn))
    for name, row in (
        ("a feature that is missing", {"hours": 1}),
        ("a feature that there is not", {**PERSON, "huors": 1}),
        ("a value in another unit", {**PERSON, "hours": "300 min"}),
        ("an unknown category", {**PERSON, course.name: "nights"}),
        ("a value beyond float32", {**PERSON, "lectures": 1e39}),
        ("a row that is a number", 7),
        ("a row too short", [1]),
    ):
        yield Recorded(name, path, dense({"instances": [PERSON, row]}), JSON, 422)
    yield Recorded("no rows", path, dense({"instances": []}), JSON, 422)
    yield Recorded("too many rows of a table", path, dense({"instances": [PERSON] * (MOST + 1)}), JSON, 413)
    yield Recorded("a name twice", path, b'{"instances": [{"lectures": 1, "lectures": 2}]}', JSON, 422)
    yield Recorded("CSV with a column that there is not", path, b"hours;lessons\n1;2\n", typed(CSV), 422)
    yield Recorded("CSV of another encoding", path, csv, typed(f"{CSV}; charset=utf-7"), 415)
    yield Recorded("rows for pictures", address(path, model="shades"), dense({"instances": PEOPLE}), JSON, 422)
    yield Recorded("a picture for a table", address(path, model=model), picture(ROWS[0]), typed(PNG), 415)


def reconstruct() -> Iterator[Recorded]:
    path, file = "/v1/reconstruct", picture(ROWS[0])
    yield from pictures(path, ROWS[:2], model="normal")
    yield from wrong_pictures(path, ROWS[:2])
    yield from refused(path, file, typed(PNG), other="shades")
    for model in ("plain", "normal"):
        for accept in (JSON_TYPE, PNG, NPY):
            yield Recorded(f"{model} as {accept}", address(path, model=model), npy(ROWS), typed(NPY, accept))
    for layout, columns, accept, status in (
        ("pairs", 2, PNG, 200), ("pictures", 0, PNG, 422), ("circles", 1, PNG, 422), ("pairs", 1, NPY, 422),
    ):  # fmt: skip
        ask_ = address(path, layout=layout, columns=columns)
        yield Recorded(f"{layout} in {columns} columns as {accept}", ask_, npy(ROWS), typed(NPY, accept), status)
    for dimension, status in ((1, 200), (2, 422), ("first", 422)):
        body = dense({"image": text(file), "perturb": {"dimension": dimension, "by": [-1, 0.5]}})
        for accept in (JSON_TYPE, PNG, NPY):
            yield Recorded(f"number {dimension} moved, {accept}", path, body, typed(JSON_TYPE, accept), status)
    moved = {"images": [text(file)] * 2, "perturb": {"dimension": 0, "by": [0.1] * MOST}}
    yield Recorded("more pictures than are made", path, dense(moved), JSON, 413)


def generate() -> Iterator[Recorded]:
    path, quick = "/v1/generate", {"seed": 5, "steps": 3}
    yield from refused(path, dense({"n": 1, **quick}), JSON, other="shades")
    image = np.full((SMALL.height, SMALL.width), 128, np.uint8)
    mask = image.copy()
    mask[:5] = 0
    start = {"init_image": text(picture(image)), **quick}
    codes = {"model": "normal", "latents": [[0.5, -1], [0, 0]]}
    for accept in (JSON_TYPE, PNG, NPY, EVENTS):
        for name, asked in (
            ("labels", {"labels": ["dark", 2], "guidance": 2, **quick}),
            ("latents", codes),
            ("between", {"model": "plain", "between": [[0, 1], [1, 0]], "frames": 3}),
            ("between pictures", {"model": "plain", "between": [text(picture(row)) for row in ROWS[:2]], "frames": 3}),
            ("a grid", {"model": "normal", "grid": {"side": 3}}),
            ("a generator", {"model": "kinds", "n": 2, "label": "light", "seed": 1}),
            ("a picture to begin with", {**start, "strength": 0.5, "label": 1}),
            ("a mask", {**start, "mask": text(picture(mask)), "visits": 2}),
            ("noise added", {"init_image": text(picture(image)), "forward": 3, "seed": 3}),
        ):
            yield Recorded(f"{name}, {accept}", path, dense(asked), typed(JSON_TYPE, accept))
        yield Recorded(f"no body, {accept}", address(path, n=3, label="dark", **quick), b"", {"Accept": accept})
        late = {"Accept": accept, "X-Request-Deadline-Ms": "0"}
        yield Recorded(f"too late, {accept}", address(path, n=1, **quick), b"", late, 504)
        yield Recorded(f"of nobody, {accept}", address(path, n=1, model="none"), b"", {"Accept": accept}, 404)
    for sampler in ("multistep", "heun", "ancestral", "consistency", "euler", "ddim"):
        yield Recorded(f"sampler {sampler}", address(path, n=2, sampler=sampler, **quick), b"")
    yield Recorded("columns", address(path, n=5, columns=2, **quick), b"", {"Accept": PNG})
    for name, asked, status in (
        ("a label that there is not", {"label": "bright"}, 422),
        ("one label and many", {"label": 1, "labels": [1, 2]}, 422),
        ("too much guidance", {"n": 1, "guidance": 9}, 422),
        ("a sampler that there is not", {"n": 1, "sampler": "hoin"}, 422),
        ("too many steps", {"n": 1, "steps": 33}, 422),
        ("too many pictures", {"n": MOST + 1}, 422),
        ("a seed below 0", {"n": 1, "seed": -1}, 422),
        ("nothing asked for", {"seed": 1}, 422),
        ("two ways at once", {"n": 1, "latents": [[1, 2]]}, 422),
        ("columns of JSON", {"n": 2, "columns": 2}, 422),
        ("a mask of another size", {**start, "mask": text(picture(mask[:9]))}, 422),
        ("a latent too long", {**codes, "latents": [[1] * LATENT]}, 422),
        ("latents of a diffusion model", {"latents": [[1, 2]]}, 422),
        ("n of an autoencoder", {"model": "plain", "n": 2}, 422),
        ("a grid too large", {"model": "normal", "grid": {"side": 9}}, 413),
        ("a grid without a side", {"model": "normal", "grid": {}}, 422),
    ):
        yield Recorded(name, path, dense(asked), JSON, status)


def denoise() -> Iterator[Recorded]:
    path = "/v1/denoise"
    yield from pictures(path, NOISY[:2], model="gauss", sigma_255=20)
    yield from wrong_pictures(path, NOISY[:2])
    yield from refused(path, picture(NOISY[0]), typed(PNG), other="shades")
    photo = np.random.default_rng(2).integers(0, 256, (45, 50, 3), np.uint8)
    for accept in (JSON_TYPE, PNG, NPY):
        yield Recorded(f"estimated, {accept}", path, npy(NOISY), typed(NPY, accept))
        yield Recorded(f"a photo, {accept}", address(path, model="blur"), picture(photo), typed(PNG, accept))
        floats = npy(photo[None, ..., :1].astype(np.float32) / 255)
        yield Recorded(f"floats, {accept}", address(path, model="blur"), floats, typed(NPY, accept))
    samples = {"samples": 2, "steps": 4, "seed": 1, "sigma_255": 30}
    for accept in (JSON_TYPE, PNG, NPY, EVENTS):
        yield Recorded(f"samples, {accept}", address(path, **samples), npy(NOISY), typed(NPY, accept))
        late = {**typed(NPY, accept), "X-Request-Deadline-Ms": "0"}
        yield Recorded(f"samples too late, {accept}", address(path, **samples), npy(NOISY), late, 504)
    for name, options, accept, status in (
        ("layout pairs", {"layout": "pairs"}, PNG, 200),
        ("layout circles", {"layout": "circles"}, PNG, 422),
        ("a sigma for each of one", {"sigma_255": "10,20"}, "", 422),
        ("a sigma that is a text", {"sigma_255": "much"}, "", 422),
        ("samples of a photo", {"model": "blur", "samples": 2}, "", 422),
        ("too many steps", {**samples, "steps": 513}, "", 422),
        ("too many samples", {**samples, "samples": 64}, "", 413),
        ("a seed without samples", {"seed": 1}, "", 422),
        ("samples and a layout", {**samples, "layout": "pairs"}, PNG, 422),
        ("a stream without samples", {}, EVENTS, 422),
    ):
        yield Recorded(name, address(path, **options), picture(NOISY[0]), typed(PNG, accept), status)


def translate() -> Iterator[Recorded]:
    path = "/v1/translate"
    yield from pictures(path, NOISY[:2], to="negative")
    yield from wrong_pictures(path, NOISY[:2], to="negative")
    yield from untaken(refused(path, picture(NOISY[0]), typed(PNG), other="shades", to="negative"))
    for accept in (JSON_TYPE, PNG, NPY):
        for cycle in ("true", "false"):
            ask_ = address(path, **{"from": "negative"}, cycle=cycle)
            yield Recorded(f"cycle {cycle}, {accept}", ask_, npy(NOISY), typed(NPY, accept))
    for name, options, accept, status in (
        ("layout cycle", {"to": "negative", "layout": "cycle", "columns": 2}, PNG, 200),
        ("layout cycle without one", {"to": "negative", "layout": "cycle", "cycle": "false"}, PNG, 422),
        ("layout of JSON", {"to": "negative", "layout": "pairs"}, "", 422),
        ("to nowhere", {}, "", 422),
        ("to what there is not", {"to": "negativ"}, "", 422),
    ):
        yield Recorded(name, address(path, **options), npy(NOISY), typed(NPY, accept), status)


def transcribe() -> Iterator[Recorded]:
    """As text and as subtitles: JSON has how long it took."""
    path, file = "/v1/transcribe", wav(sound_of("soft", None, "loud"))
    yield from refused(path, file, typed("audio/wav", TEXT), other="shades")
    for accept in (TEXT, SRT, VTT):
        yield Recorded(f"sound, {accept}", path, file, typed("audio/wav", accept))
    yield Recorded("a stream of a whole recording", path, file, typed("audio/wav", EVENTS), 409)
    yield Recorded("alternatives of text", address(path, alternatives=1), file, typed("audio/wav", TEXT), 422)
    yield Recorded("a picture for sound", path, picture(ROWS[0]), typed(PNG), 415)
    yield Recorded("no sound", path, b"text", typed("audio/wav"), 415)


def openai() -> Iterator[Recorded]:
    path, file = "/v1/audio/transcriptions", ("file", wav(sound_of("soft", None, "loud")), "a.wav")
    for name, fields, status in (
        ("json", {"model": "hearer"}, 200),
        ("verbose_json", {"model": "hearer", "response_format": "verbose_json"}, 200),
        ("srt", {"model": "hearer", "response_format": "srt"}, 200),
        ("no model", {}, 400),
        ("another's model", {"model": "whisper-1"}, 404),
    ):
        kind, body = sound_form(file, *((name, text.encode()) for name, text in fields.items()))
        yield Recorded(name, path, body, {"Content-Type": kind}, status)
    yield Recorded("GET", path, None, {}, 405, "GET")


def protocol() -> Iterator[Recorded]:
    image, zero = {"image": ROWS}, {**RAW, "Accept-Encoding": "deflate"}
    for path in (infer("shades"), infer("shades", "1")):
        yield from of_protocol(path, image)
        yield from refused_by_protocol(path, ROWS[:1], "probabilities")
        best: Any = [{"name": "probabilities", "parameters": {"classification": 3, "binary_data": True}}]
        yield Recorded("classification", path, as_json(image, outputs=best), JSON)
        yield Recorded("too many rows", path, *binary({"image": np.zeros((MOST + 1, 32, 32, 3), np.uint8)}), 400)
    noisy: Tensors = {"x": np.zeros((2, 12, 10, 1), np.float32), "sigma": np.ones(2, np.float32), "label": np.arange(2)}
    yield from of_protocol(infer("guided"), noisy)
    yield from of_protocol(infer("normal.encoder"), image)
    yield Recorded(
        "a label that there is not", infer("guided"), as_json({**noisy, "label": np.array([4, 1])}), JSON, 400
    )
    yield Recorded("raw for three inputs", infer("guided"), bytes(8), RAW, 400)
    for path in (
        infer("none"), infer("shades", "7"), infer("shades.decoder"), infer("normal"), infer(""), infer("", "1"),
        "/v2/models/shades/versions//infer", "/v2/models/shades/versions/1/2/infer", "/v2/models/shades%0A/infer",
        "/v2/models/shades/infer/", "//v2/models/shades/infer", f"/v2/models/{'long' * 99}/infer",
    ):  # fmt: skip
        yield Recorded("what there is not", path, ROWS[0].tobytes(), zero, 404)
    for path in ("/v2/models/infer", "/v2/models/shades/versions/infer"):
        yield Recorded("a model called infer", path, ROWS[0].tobytes(), zero, 405)
    yield Recorded("slashes in other words", "/v2/models/shades%2Fversions%2F1/infer", ROWS[0].tobytes(), zero)
    yield Recorded("gzip of a row", infer("shades"), gzip.compress(ROWS[0].tobytes(), mtime=0),
                   {**RAW, "Content-Encoding": "gzip"})  # fmt: skip


ASKED: Final = [
    request
    for part in (classify, regress, reconstruct, generate, denoise, translate, transcribe, openai, protocol)
    for request in part()
]  # fmt: skip


def direct(server: LiveServer) -> FastPath:
    layer = server.app.front  # type: ignore[attr-defined]
    while not isinstance(layer, FastPath):
        layer = layer.app
    return layer


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, LiveServer]]:
    """One that takes the fast path, one that has only the router."""
    root = tmp_path_factory.mktemp("one-of-each")
    make_one_of_each(root)
    settings: dict[str, Any] = {"default_models": DEFAULTS, "max_rows_per_request": MOST, "max_body_bytes": 1 << 20}
    with open_server(root, **settings) as fast, open_server(root, **settings) as routed:
        direct(routed)._patterns = []
        yield fast, routed
        assert direct(fast)._known
        assert not direct(routed)._known


@pytest.fixture
def fast(servers: tuple[LiveServer, LiveServer]) -> LiveServer:
    return servers[0]


@pytest.mark.parametrize("request_", ASKED, ids=lambda request: f"{request.path.partition('?')[0]}: {request.name}")
def test_the_fast_path_answers_as_the_router_does(servers: tuple[LiveServer, LiveServer], request_: Recorded) -> None:
    by_fast_path, by_router = (ask(server.port, request_) for server in servers)
    assert by_router.status == request_.status, by_router.body[:500]
    assert differences(by_router, by_fast_path, named=is_named(request_)) == []


def test_every_task_and_both_patterns_of_the_protocol_have_a_fast_path(fast: LiveServer) -> None:
    found = {path: direct(fast)._find(path) for path in ROUTES}
    assert {path: way and way[0].path for path, way in found.items()} == ROUTES
    assert {request.path.partition("?")[0] for request in ASKED if request.status == 200} >= set(ROUTES)


def test_both_are_counted_alike(servers: tuple[LiveServer, LiveServer]) -> None:
    counted = []
    for server in servers:
        for path in ROUTES:
            server.ask("POST", path, b"{}", JSON)
        lines = server.get("/metrics").body.decode().splitlines()
        counted.append({line for line in lines if line.startswith("lectern_requests_total")})
    assert counted[0] == counted[1]
    assert all(any(f'path="{route}"' in line for line in counted[0]) for route in ROUTES.values())


def test_a_deadline_at_once_is_504_and_503_where_triton_says_so(fast: LiveServer) -> None:
    details = fast.send("image/png", picture(ROWS[0]), x_request_deadline_ms="0").problem(504)
    assert (details["type"], details["subject"]) == ("/errors/too-late", "deadline")
    late = fast.ask("POST", infer("shades"), ROWS[0].tobytes(), {**RAW, "X-Request-Deadline-Ms": "0"})
    assert late.status == 503


def test_a_kept_connection_takes_answer_after_answer_and_pipelined_ones_in_order(fast: LiveServer) -> None:
    def request(level: int, connection: str) -> bytes:
        body = np.full((1, 32, 32, 3), level, np.uint8).tobytes()
        head = f"POST {infer('shades')} HTTP/1.1\r\nHost: a\r\n{HEADER_LENGTH}: 0\r\nConnection: {connection}\r\n"
        return head.encode() + b"X-Request-Id: level-%d\r\nContent-Length: %d\r\n\r\n" % (level, len(body)) + body

    received = fast.raw(request(10, "keep-alive") + request(20, "keep-alive") + request(30, "close"), close=False)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    places = [received.index(b"x-request-id: level-%d" % level) for level in (10, 20, 30)]
    assert places == sorted(places)
    assert received.count(b"connection: close") == 1
