"""POST /v1/denoise on photos of any size: no seams, colours, limits, and that nobody has to wait for a large one."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.errors import TooLate
from app.core.imaging import opponent_colours as opponent
from app.core.manifest import Plane
from app.tasks.denoise import photos
from app.tasks.denoise.tiled_photo import Photo
from tests.app.coders import JSON, NPY, PNG, answered, ask, opened, rows_of, text
from tests.app.denoisers import MAX_ROWS, OVERLAP, PIXELS, TILE, blurred
from tests.app.gate import Gate, post, received
from tests.app.live import LiveServer, form
from tests.app.tasks.test_denoise import PATH, eight_bits, send


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


@given(height=st.integers(4, 90), width=st.integers(4, 90), channels=st.sampled_from([1, 3]), most=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_a_photo_that_nothing_is_done_to_comes_out_as_it_went_in(
    height: int, width: int, channels: int, most: int
) -> None:
    sent = photo(height, width, channels)
    cut = Photo(sent, Plane(tile=TILE, overlap=OVERLAP))
    for start in range(0, len(cut), most):
        cut.add(cut.cut(range(start, min(start + most, len(cut)))), start)
    np.testing.assert_array_equal(cut.restored(as_floats=False), sent)
    np.testing.assert_allclose(cut.restored(as_floats=True), sent / 255, atol=1e-6)


@pytest.mark.parametrize("shape", [(70, 101, 3), (33, 150, 1), (TILE, 90, 3), (TILE, TILE, 1), (150, 200, 3)])
def test_a_blur_by_tiles_is_the_blur_in_one_piece(denoisers: LiveServer, shape: tuple[int, int, int]) -> None:
    sent = photo(*shape)
    wanted = blurred(sent / 255)
    np.testing.assert_allclose(rows_of(send(denoisers, sent, "model=blur", accept=NPY))[0], wanted, atol=1e-5)
    page = opened(ask(denoisers, PATH, encode_png(sent), "model=blur", kind=PNG, accept=PNG).body)
    assert np.abs(page.reshape(shape) - 255 * wanted).max() <= 0.51


def test_the_colours_are_told_their_own_share_of_the_noise(denoisers: LiveServer) -> None:
    sent = photo(40, 50)
    planes = opponent.to_planes(np.float32(sent / 255)) - 0.1 * opponent.noise(3)[:, None, None]
    wanted = np.clip(opponent.to_picture(planes), 0, 1)
    np.testing.assert_allclose(
        rows_of(send(denoisers, sent, "model=darker&sigma_255=25.5", accept=NPY))[0], wanted, atol=1e-5
    )
    grey = photo(40, 50, 1)
    rows = rows_of(send(denoisers, grey, "model=darker&sigma_255=25.5", accept=NPY))
    np.testing.assert_allclose(rows[0], np.clip(grey / 255 - 0.1, 0, 1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_white_noise_is_found_as_strong_as_it_is(denoisers: LiveServer, channels: int) -> None:
    flat = 0.5 + 0.1 * np.random.default_rng(1).normal(size=(1, 140, 160, channels))
    result = answered(send(denoisers, flat.astype(np.float32), "model=still"))["results"][0]
    assert result["estimated"]
    assert result["sigma_255"] == pytest.approx(25.5, rel=0.03)


def test_a_grey_photo_in_three_equal_colours_has_the_noise_of_its_brightness(denoisers: LiveServer) -> None:
    flat = 0.5 + 0.1 * np.random.default_rng(1).normal(size=(1, 140, 160, 1)).repeat(3, axis=3)
    reply = send(denoisers, flat.astype(np.float32), "model=darker", accept=NPY)
    assert float(str(reply.header("x-sigma-255"))) == pytest.approx(25.5, rel=0.03)
    np.testing.assert_allclose(rows_of(reply), np.clip(flat - 0.1, 0, 1), atol=0.01)


def test_the_noise_may_be_told_of_each_photo(denoisers: LiveServer) -> None:
    sent = [photo(40, 50, 1), photo(20, 90, 1)]
    body = {"images": [text(encode_png(one)) for one in sent], "model": "darker", "sigma_255": [51, 0]}
    results = answered(ask(denoisers, PATH, body))["results"]
    np.testing.assert_array_equal(opened(results[0]["image"]), np.maximum(sent[0][..., 0], 51) - 51)
    np.testing.assert_array_equal(opened(results[1]["image"]), sent[1][..., 0])
    assert [(result["sigma_255"], result["estimated"]) for result in results] == [(51, False), (0, False)]


def test_every_form_of_body_is_read_the_same(denoisers: LiveServer) -> None:
    sent = photo(33, 40)
    whole = answered(ask(denoisers, PATH, {"image": text(encode_png(sent)), "model": "blur"}))
    nested = answered(ask(denoisers, PATH, {"image": sent.tolist(), "model": "blur"}))
    kind, multipart = form(("image", encode_png(sent), "a.png"), ("model", b"blur"))
    in_form = answered(ask(denoisers, PATH, multipart, kind=kind))
    as_rows = answered(send(denoisers, sent, "model=blur"))
    alone = answered(ask(denoisers, PATH, encode_png(sent), "model=blur", kind=PNG))
    assert whole == nested == in_form == as_rows == alone
    grey = photo(33, 40, 1)
    in_lists = answered(ask(denoisers, PATH, {"image": grey[..., 0].tolist(), "model": "still"}))
    np.testing.assert_array_equal(opened(in_lists["results"][0]["image"]), grey[..., 0])


def test_a_photo_is_turned_upright_and_laid_on_white(denoisers: LiveServer) -> None:
    sent = photo(20, 30)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned to the right
    Image.fromarray(sent).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(
        opened(ask(denoisers, PATH, file.getvalue(), "model=still", kind=PNG, accept=PNG).body),
        np.rot90(sent, -1),
    )
    clear = np.dstack([sent, np.where(np.arange(30) < 15, 255, 0)[None].repeat(20, 0).astype(np.uint8)])
    file = io.BytesIO()
    Image.fromarray(clear).save(file, "PNG")
    page = opened(ask(denoisers, PATH, file.getvalue(), "model=still", kind=PNG, accept=PNG).body)
    np.testing.assert_array_equal(page[:, :15], sent[:, :15])
    assert (page[:, 15:] == 255).all()


def test_a_photo_keeps_the_space_of_its_colours(denoisers: LiveServer) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = srgb.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    sent, plain = photo(20, 30), io.BytesIO()
    files = {other: io.BytesIO(), srgb: io.BytesIO()}
    for profile, file in files.items():
        Image.fromarray(sent).save(file, "PNG", icc_profile=profile)
    Image.fromarray(sent).save(plain, "PNG")

    def profile_of(page: bytes) -> bytes | None:
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(page)))[:20, :30], sent)
        return Image.open(io.BytesIO(page)).info.get("icc_profile")

    file = files[other].getvalue()
    assert profile_of(ask(denoisers, PATH, file, "model=still", kind=PNG, accept=PNG).body) == other
    found = answered(ask(denoisers, PATH, {"image": base64.b64encode(file).decode(), "model": "still"}))
    assert profile_of(base64.b64decode(found["results"][0]["image"])) == other
    for file in (files[srgb].getvalue(), plain.getvalue()):  # sRGB is what a PNG without a profile is
        assert profile_of(ask(denoisers, PATH, file, "model=still", kind=PNG, accept=PNG).body) is None


def test_photos_of_several_sizes_stand_on_one_page_and_not_in_one_array(denoisers: LiveServer) -> None:
    sent = [photo(20, 30), photo(30, 20, 1)]
    body = {"images": [text(encode_png(one)) for one in sent], "model": "still"}
    page = opened(ask(denoisers, PATH, body, "columns=2", accept=PNG).body)
    assert page.shape == (30, 62, 3)
    np.testing.assert_array_equal(page[5:25, :30], sent[0])
    np.testing.assert_array_equal(page[:, 37:57], sent[1].repeat(3, axis=2))
    details = ask(denoisers, PATH, body, accept=NPY).problem(422)
    assert (details["subject"], details["got"]) == ("images", "(20, 30, 3) and (30, 20, 1)")
    pairs = opened(ask(denoisers, PATH, {**body, "layout": "pairs"}, "columns=1", accept=PNG).body)
    np.testing.assert_array_equal(pairs[:30, :30], pairs[32:62, :30])


@pytest.mark.parametrize("accept", [JSON, PNG, NPY])
def test_a_photo_gives_the_same_bytes_again(denoisers: LiveServer, accept: str) -> None:
    first, again = (send(denoisers, photo(70, 90), "model=blur", accept=accept) for _ in range(2))
    assert first.status == 200
    assert first.body == again.body


def test_photos_of_more_pixels_than_the_limit_are_refused(denoisers: LiveServer) -> None:
    answered(ask(denoisers, PATH, encode_png(np.zeros((150, 200), np.uint8)), "model=still", kind=PNG))
    for value, kind, subject in (
        (encode_png(np.zeros((151, 200), np.uint8)), PNG, "body"),
        (encode_npy(np.zeros((3, 101, 100, 3), np.uint8)), NPY, "body"),
        ({"images": [text(encode_png(np.zeros((101, 100), np.uint8)))] * 3}, JSON, "images"),
    ):
        details = ask(denoisers, PATH, value, "model=still", kind=kind).problem(413)
        assert details["subject"] == subject
        assert details["expected"] == f"at most {PIXELS} pixels"


@pytest.mark.parametrize("shape", [(3, 50), (2, 3, 50, 1), (2, 50, 50, 2), (2, 2, 9, 9, 1), (50,)])
def test_rows_that_are_no_photos_are_told_so(denoisers: LiveServer, shape: tuple[int, ...]) -> None:
    details = ask(denoisers, PATH, encode_npy(np.zeros(shape, np.uint8)), "model=still", kind=NPY).problem(422)
    assert details["expected"] == "(rows, height, width, 1 or 3), at least 4x4"
    assert details["got"] == f"shape {shape}"


@pytest.mark.parametrize("pixels", [[[0] * 9] * 3, [[]], [], [[0, 1], [2]], [[0] * 5000] * 4])
def test_nested_pixels_that_are_no_photo_are_told_so(denoisers: LiveServer, pixels: Any) -> None:
    details = ask(denoisers, PATH, {"image": pixels, "model": "still"}).problem(422)
    assert details["subject"] == "body.image"
    assert "4 to 4096 rows" in details["expected"]


def later(server: LiveServer, body: bytes, query: str) -> socket.socket:
    return post(server, f"{PATH}?{query}", body, kind=NPY)


@pytest.fixture
def gate(denoisers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(denoisers, "still", monkeypatch)
    yield gate
    gate.open()


LARGE = photo(150, 200)
TILES = len(Photo(LARGE, Plane(tile=TILE, overlap=OVERLAP)))
RUNS = -(-TILES // (MAX_ROWS // 3))


def test_of_a_large_photo_a_few_tiles_wait_at_any_time(denoisers: LiveServer, gate: Gate) -> None:
    line = later(denoisers, encode_npy(LARGE), "model=still&sigma_255=5")
    gate.open()
    assert received(line).startswith(b"HTTP/1.1 200")
    assert sum(gate.rows) == 3 * TILES
    assert len(gate.rows) >= RUNS
    assert max(gate.waiting) <= (photos.AHEAD - 1) * MAX_ROWS


def test_a_small_photo_does_not_wait_for_a_large_one(denoisers: LiveServer, gate: Gate) -> None:
    large = later(denoisers, encode_npy(LARGE), "model=still&sigma_255=5")
    gate.wait()
    small = later(denoisers, encode_npy(photo(9, 9, 1)), "model=still&sigma_255=99")

    async def queued() -> None:
        while gate.batcher._queue.rows % 3 == 0:  # noqa: ASYNC110 (three rows wait for each place of the large one)
            await asyncio.sleep(0)

    gate.on_loop(queued())
    gate.open()
    assert received(small).startswith(b"HTTP/1.1 200")
    assert received(large).startswith(b"HTTP/1.1 200")
    assert 99 in gate.levels[1]  # it led the next run, which the large one's tiles filled up
    assert len(gate.levels) >= RUNS


def test_for_a_client_that_hung_up_nothing_more_is_run(denoisers: LiveServer, gate: Gate) -> None:
    line = later(denoisers, encode_npy(LARGE), "model=still&sigma_255=5")
    gate.wait()
    line.close()
    gate.on_loop(denoisers.app.state.registry.catalog.get("still").lease().ended())  # before the run has ended
    gate.open()
    send(denoisers, photo(9, 9, 1), "model=still&sigma_255=5")
    assert len(gate.rows) <= 3
    assert gate.rows[-1] == 1


def test_a_deadline_that_shows_to_be_out_of_reach_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(photos, "monotonic", lambda: now)
    photos._check_rate(began=90.0, done=20, of=100, deadline=141.0)  # 40 s more
    photos._check_rate(began=90.0, done=9, of=100, deadline=101.0)  # too early to say
    photos._check_rate(began=90.0, done=100, of=100, deadline=99.0)
    with pytest.raises(TooLate, match=r"20 of 100 tiles are done, the others would take about 40\.0 s"):
        photos._check_rate(began=90.0, done=20, of=100, deadline=139.0)


def test_between_its_tiles_a_photos_deadline_counts(denoisers: LiveServer, gate: Gate) -> None:
    reply = send(denoisers, LARGE, "model=still&sigma_255=5", x_request_deadline_ms="300")
    assert reply.problem(504)["subject"] == "deadline"


def test_of_large_photos_few_are_held_as_floats(
    denoisers: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "LARGE", 1000)
    monkeypatch.setattr(photos, "LARGE_AT_ONCE", 1)
    denoisers.app.state.registry.catalog.get("still").prepared.pop("photos", None)
    first = later(denoisers, encode_npy(LARGE), "model=still&sigma_255=5")
    gate.wait()
    details = send(denoisers, LARGE, "model=still&sigma_255=5", x_request_deadline_ms="200").problem(504)
    assert "at other large photos" in details["detail"]
    assert len(gate.rows) == 1
    second = later(denoisers, encode_npy(LARGE), "model=still&sigma_255=5")
    gate.open()
    assert received(first).startswith(b"HTTP/1.1 200")
    assert received(second).startswith(b"HTTP/1.1 200")
    denoisers.app.state.registry.catalog.get("still").prepared.pop("photos")


def test_of_pixels_that_few_bytes_have_brought_no_more_wait_than_there_is_room_for(
    denoisers: LiveServer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "HELD", 2 * 60 * 60 - 1)
    line = later(denoisers, encode_npy(photo(60, 60)), "model=still")
    gate.wait()
    reply = ask(denoisers, PATH, encode_png(photo(60, 60)), "model=still", kind=PNG)
    assert reply.header("retry-after") == "10"
    assert "3600 pixels" in reply.problem(429)["detail"]
    gate.open()
    assert received(line).startswith(b"HTTP/1.1 200")
    answered(ask(denoisers, PATH, encode_png(photo(60, 60)), "model=still", kind=PNG))


def test_beside_strangers_a_photo_stays_its_own(denoisers: LiveServer) -> None:
    sent = [photo(60 + 3 * i, 70, 3, seed=i) for i in range(6)]
    alone = [rows_of(send(denoisers, one, "model=blur", accept=NPY)) for one in sent]
    lines = [later(denoisers, encode_npy(one), "model=blur") for one in sent]
    for line, one in zip(lines, alone, strict=True):
        head, _, body = received(line).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        shown = opened(json.loads(body)["results"][0]["image"])
        assert np.abs(shown.astype(int) - eight_bits(one[0])).max() <= 1
