"""Clips become frames at the declared rate, by the times that were decoded; whatever is wrong with them is named."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.codecs.images.files import decode as decode_picture
from app.codecs.npy import encode_npy
from app.codecs.video import Clip, decode, media
from app.core.errors import ClientError, TooLarge, Unprocessable, UnsupportedMedia
from app.core.manifest import DigitPicture, PhotoPicture, Video
from tests.app.codecs.clips import FORMATS, LOSSLESS, VIDEO, film, grey, moving
from tests.app.codecs.files import about, saved, scene

LEVELS, DURATIONS_MS = (20, 120, 220), (40, 120, 80)  # one, three and two frames at 25 a second
CLIPS = {form: moving(form, LEVELS, DURATIONS_MS) for form in FORMATS}


def read(data: bytes, video: Video = VIDEO, *, max_frames: int = 200, max_pixels: int = 1_000_000) -> Clip:
    return decode(data, video, subject="body", max_frames=max_frames, max_pixels=max_pixels)


def check(clip: Clip, *, came: int, duration_s: float, frames: int) -> None:
    """What a clip says of itself."""
    assert clip.frames_in == came
    assert clip.duration_s == pytest.approx(duration_s, abs=1e-9)
    assert len(clip.frames) == len(clip.times_s) == frames


def levels(clip: Clip) -> list[float]:
    """The level of each frame, all of whose pixels are nearly alike."""
    flat = clip.frames.reshape(len(clip.frames), -1).astype(int)
    assert (flat.max(axis=1) - flat.min(axis=1)).max() <= 4
    return [float(level) for level in flat.mean(axis=1)]


@pytest.mark.parametrize("form", FORMATS)
def test_a_frame_is_there_as_long_as_it_is_shown(form: str) -> None:
    clip = read(CLIPS[form])
    assert levels(clip) == pytest.approx([20, 120, 120, 120, 220, 220], abs=3)
    assert clip.frames.shape == (6, 8, 8, 1)
    assert clip.frames.dtype == np.uint8
    check(clip, came=3, duration_s=0.24, frames=6)
    np.testing.assert_allclose(clip.times_s, np.arange(6) / 25)


@pytest.mark.parametrize("form", FORMATS)
def test_at_another_rate_each_moment_takes_the_frame_shown_then(form: str) -> None:
    slow = VIDEO.model_copy(update={"rate": 12.5})  # middles at 40, 120 and 200 ms
    assert levels(read(CLIPS[form], slow)) == pytest.approx([120, 120, 220], abs=3)
    fast = VIDEO.model_copy(update={"rate": 50.0})
    assert levels(read(CLIPS[form], fast)) == pytest.approx([20] * 2 + [120] * 6 + [220] * 4, abs=3)


def test_a_gif_s_rounded_times_are_those_of_the_file() -> None:
    """Thirty a second for three seconds: hundredths of a second make 2.70 of it."""
    clip = read(moving("GIF", [60, 180] * 45, 33))
    check(clip, came=90, duration_s=2.7, frames=67)


def test_a_webp_that_merged_its_frames_lasts_as_long_as_before() -> None:
    clip = read(moving("WEBP", range(100, 130), 40, lossless=False, quality=60))
    assert clip.frames_in < 30
    check(clip, came=clip.frames_in, duration_s=1.2, frames=30)
    assert levels(clip)[0] == pytest.approx(100, abs=6)
    assert levels(clip)[-1] == pytest.approx(129, abs=8)


def test_an_avif_s_times_are_not_the_sum_of_rounded_milliseconds() -> None:
    data = bytearray(moving("AVIF", [60, 180] * 45, 33))
    at = data.index(b"mdhd") + 8 + 16  # version 1: two times of eight bytes come before the time scale
    assert data[at : at + 4] == struct.pack(">I", 1000)
    data[at : at + 4] = struct.pack(">I", 990)  # 33 of it are a thirtieth of a second
    clip = read(bytes(data))
    check(clip, came=90, duration_s=3.0, frames=75)


def test_a_still_picture_is_one_frame() -> None:
    for form in FORMATS:
        clip = read(saved(grey(90), form))
        assert levels(clip) == pytest.approx([90], abs=3)
        check(clip, came=1, duration_s=0.04, frames=1)


def test_frames_without_a_time_are_one_each() -> None:
    clip = read(moving("GIF", (10, 200, 90), 0))
    assert levels(clip) == [10, 200, 90]
    check(clip, came=3, duration_s=0.12, frames=3)


def test_a_frame_that_is_shown_for_less_than_half_a_frame_leaves_one() -> None:
    clip = read(moving("GIF", (10, 200), 10), VIDEO.model_copy(update={"rate": 5.0}))
    assert levels(clip) == [10]
    check(clip, came=2, duration_s=0.02, frames=1)


def test_the_picture_of_an_apng_for_those_who_show_none_is_no_frame() -> None:
    clip = read(moving("PNG", (255, 50, 100), 40, default_image=True))
    assert levels(clip) == [50, 100]
    assert clip.frames_in == 2


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_each_frame_has_the_pixels_of_the_same_still_picture(layout: str) -> None:
    picture = PhotoPicture.model_validate({"kind": "photo", "height": 20, "width": 16, "channels": 3, "layout": layout})
    video = Video(picture=picture, rate=10.0, max_frames=8)
    pictures = [scene(40, 30), scene(40, 30).rotate(180), scene(40, 30).convert("RGBA")]
    pictures[2].putalpha(100)
    data = saved(pictures[0].convert("RGBA"), "PNG", save_all=True, append_images=pictures[1:], duration=100, blend=0)
    clip = read(data, video)
    assert clip.frames.shape == (3, *picture.shape)
    for frame, still in zip(clip.frames, pictures, strict=True):
        np.testing.assert_array_equal(frame, decode_picture(saved(still), picture, subject="image", max_pixels=10_000))


def test_a_clip_is_turned_upright_as_its_first_frame_says() -> None:
    picture = PhotoPicture(kind="photo", height=12, width=16, channels=1)
    upright = np.zeros((12, 16), np.uint8)
    upright[:6] = 200  # bright above
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by 90 degrees to the left
    frame = Image.fromarray(np.ascontiguousarray(np.rot90(upright, -1)))
    for form in ("WEBP", "PNG"):  # Pillow 13.0 dies of a segmentation fault where it writes such an AVIF
        options = LOSSLESS[form]
        others = [frame.point(lambda level: level + 20)]
        data = saved(frame, form, save_all=True, append_images=others, duration=40, exif=exif, **options)
        clip = read(data, Video(picture=picture, rate=25.0, max_frames=4))
        assert clip.frames_in == 2
        assert (clip.frames[:, :5] > 190).all(), form
        assert (clip.frames[:, 7:] < 30).all(), form


def test_digits_are_read_frame_by_frame_and_a_blank_one_is_named() -> None:
    video = Video(picture=DigitPicture(kind="digit", height=28, width=28, box=20), rate=25.0, max_frames=4)
    stroke = np.zeros((40, 40), np.uint8)
    stroke[5:35, 18:22] = 255
    ink, blank = Image.fromarray(stroke), Image.new("L", (40, 40), 0)
    data = saved(ink, "PNG", save_all=True, append_images=[ink.rotate(90)], duration=40)
    assert read(data, video).frames.shape == (2, 28, 28, 1)
    with pytest.raises(Unprocessable) as caught:
        read(saved(ink, "PNG", save_all=True, append_images=[blank], duration=40), video)
    about(caught.value, "body.frames[1]")


# Limits.


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_over_a_limit_answers_413_before_anything_is_decoded(form: str) -> None:
    for max_frames, max_pixels, words in (
        (2, 192, "has 3 frames, the limit is 2"),
        (3, 191, "16x12 = 192 pixels, the limit is 191"),
    ):
        with pytest.raises(TooLarge, match=words) as caught:
            read(CLIPS[form], max_frames=max_frames, max_pixels=max_pixels)
        about(caught.value, "body")


def test_all_frames_together_have_a_limit_of_pixels() -> None:
    data = moving("GIF", [60, 180] * 10, 40)
    assert read(data, max_pixels=960).frames_in == 20  # 4 x 960 = 20 x 192
    with pytest.raises(TooLarge, match="20 frames of 16x12 = 3840 pixels, the limit is 3836"):
        read(data, max_pixels=959)


def test_few_bytes_that_claim_many_pixels_answer_413() -> None:
    data = bytearray(moving("GIF", [60, 180], 40))
    data[6:10] = struct.pack("<HH", 20_000, 20_000)
    with pytest.raises(TooLarge, match=r"2 frames of 20000x20000 in \d+ bytes, the limit is 50000") as caught:
        read(bytes(data), max_pixels=1 << 30)
    assert caught.value.expected == "at most 50000 pixels per byte"


@pytest.mark.parametrize("form", FORMATS)
def test_a_clip_that_lasts_too_long_answers_413_with_its_seconds(form: str) -> None:
    with pytest.raises(TooLarge, match=r"lasts 60\.\d+ s, which are 150\d frames at 25 a second, the limit is 100"):
        read(moving(form, (10, 200, 90), [40, 60_000, 40]))


def test_more_frames_without_a_time_than_the_model_takes_answer_413() -> None:
    with pytest.raises(TooLarge, match="lasts 101 frames, the limit is 100"):
        read(moving("GIF", [10, 200] * 60, 0))


def test_frames_that_differ_in_size_answer_422_with_both_sizes() -> None:
    data = bytearray(moving("GIF", (10, 200), 40))
    at = data.rindex(b"!\xf9") + 8  # the second frame's place behind its times
    assert data[at : at + 1] == b","
    data[at + 1 : at + 3] = struct.pack("<H", 8)  # from 8 to 24 of 16
    with pytest.raises(Unprocessable, match="is 24x12, it must be 16x12 pixels in each frame") as caught:
        read(bytes(data))
    about(caught.value, "body.frames[1]")


def test_an_avif_whose_frames_are_of_another_size_than_it_says_answers_422() -> None:
    said, other = struct.pack(">II", 16 << 16, 12 << 16), struct.pack(">II", 32 << 16, 24 << 16)
    assert said in CLIPS["AVIF"]  # in the header of its track
    with pytest.raises(Unprocessable, match="body is 16x12, it must be 32x24 pixels in each frame"):
        read(CLIPS["AVIF"].replace(said, other))


def test_times_that_run_backwards_answer_422() -> None:
    """A WebP of 24-bit durations overflows the 32 bits of libwebp's clock."""
    data = bytearray(moving("WEBP", [60, 180] * 100, 40))
    at = -1
    while (at := data.find(b"ANMF", at + 1)) >= 0:
        data[at + 20 : at + 23] = b"\xff\xff\xff"
    slow = VIDEO.model_copy(update={"rate": 1e-5, "max_frames": 10_000})
    with pytest.raises(Unprocessable, match=r"has one at -.* s, expected an end at .* s or later"):
        read(bytes(data), slow)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", Unprocessable, "is empty"),
        (saved(scene(), "JPEG"), UnsupportedMedia, "is a JPEG picture"),
        (saved(scene(), "TIFF"), UnsupportedMedia, "is a TIFF picture"),
        (b"%PDF-1.7 ...", UnsupportedMedia, "is a PDF document"),
        (b"RIFF\0\0\0\0AVI LIST", UnsupportedMedia, "is a RIFF file"),
        (b"RIFF\0\0\0\0WAVEfmt ", UnsupportedMedia, "is a WAV recording"),
        (b"OggS\0\2" + bytes(40), UnsupportedMedia, "is an Ogg file: sound, or a video"),
        (b"ID3\4\0\0\0\0\0\0", UnsupportedMedia, "is an MP3 recording"),
    ],
)
def test_what_is_no_clip_is_refused_with_what_is_taken(data: bytes, error: type[ClientError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        read(data)
    assert caught.value.expected == "animated AVIF, WebP, GIF or PNG, MP4, WebM or .npy"


# Hostile files.


@pytest.mark.parametrize("form", FORMATS)
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=25, deadline=None)
def test_a_cut_off_clip_is_refused_or_ends_earlier(form: str, share: float) -> None:
    whole = CLIPS[form]
    try:
        clip = read(whole[: int(share * len(whole))])
    except (Unprocessable, UnsupportedMedia) as error:
        about(error, "body")
    else:
        assert 1 <= clip.frames_in <= 3
        np.testing.assert_array_equal(clip.frames, read(whole).frames[: len(clip.frames)])


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_clip_gives_frames_or_an_error_of_the_tree(form: str, data: st.DataObject) -> None:
    damaged = bytearray(CLIPS[form])
    spots = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for at, value in data.draw(st.lists(spots, min_size=1, max_size=8)):
        damaged[at] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clip = read(bytes(damaged))
        except ClientError as error:
            about(error, "body")
        else:
            assert clip.frames.shape[1:] == (8, 8, 1)
            assert len(clip.frames) == len(clip.times_s) <= 100


@pytest.mark.parametrize("form", FORMATS)
def test_no_error_says_where_in_memory_the_server_has_a_clip(form: str) -> None:
    whole = CLIPS[form]
    for end in range(1, min(len(whole), 400)):
        try:
            read(whole[:end])
        except ClientError as error:
            assert "0x" not in error.detail  # noqa: PT017 - it may be long enough to be read


# Arrays.


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 8, 1), (8, 8), (5, 16, 16), (5, 16, 12, 1), (5, 16, 12, 3)])
def test_an_array_is_frames_at_the_declared_rate(shape: tuple[int, ...]) -> None:
    pixels = np.repeat(np.array([10, 60, 110, 160, 210], np.uint8), 16 * 16 * 3).reshape(5, -1)
    count = shape[0] if len(shape) > 2 else 1
    rows = np.stack([np.resize(pixel, shape[1:] if len(shape) > 2 else shape) for pixel in pixels[:count]])
    clip = read(encode_npy(rows.reshape(shape)))
    assert levels(clip) == [10, 60, 110, 160, 210][:count]
    check(clip, came=count, duration_s=count / 25, frames=count)


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.zeros((101, 8, 8), np.uint8), TooLarge, "has 101 rows, the limit is 100"),
        (np.zeros((101, 9, 9), np.uint8), TooLarge, "has 101 frames, the limit is 100"),
        (np.zeros((5, 2000, 1000), np.uint8), TooLarge, "frames of 1000x2000 = 2000000 pixels"),
        (np.zeros((0, 8, 8), np.uint8), Unprocessable, "has no rows"),
        (np.zeros((5, 9, 9, 4), np.uint8), Unprocessable, r"has shape \(5, 9, 9, 4\), expected \(frames, height"),
        (np.zeros(5, np.uint8), Unprocessable, r"has shape \(5,\)"),
        (np.zeros((5, 0, 9), np.uint8), Unprocessable, "has 9x0, it must be frames of at least 4x4 pixels"),
        (np.zeros((5, 9, 3), np.uint8), Unprocessable, "has 3x9, it must be frames of at least 4x4 pixels"),
        (np.zeros((5, 9, 9), np.float32), Unprocessable, "has dtype float32, expected uint8"),
    ],
)
def test_an_array_of_another_kind_is_refused(array: np.ndarray, error: type[ClientError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        read(encode_npy(array))
    about(caught.value, "body")


# MP4 and WebM.


def test_without_pyav_mp4_and_webm_answer_415_and_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(media, "import_module", missing)
    for head, name in ((b"\0\0\0\x20ftypisom", "MP4"), (b"\x1a\x45\xdf\xa3", "WebM")):
        with pytest.raises(UnsupportedMedia, match=f"is {name}, which .* its extra 'media'") as caught:
            read(head + bytes(100))
        about(caught.value, "body")


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_films_of_a_rate_that_varies_have_their_frames_exact_times(form: str) -> None:
    av = pytest.importorskip("av")
    shown = [20, 60, 100, 140, 180, 220] * 5
    times = [100 * k + (400 if k >= 10 else 0) + (800 if k >= 20 else 0) for k in range(30)]
    clip = read(film(av, form, shown, times), VIDEO.model_copy(update={"rate": 10.0}))
    assert clip.frames_in == 30
    want = shown[:10] + [shown[9]] * 4 + shown[10:20] + [shown[19]] * 8 + shown[20:]
    assert 41 <= len(clip.frames) <= 42  # how long the last one is shown, not every file says
    assert levels(clip) == pytest.approx(want[: len(clip.frames)], abs=6)
    assert clip.duration_s == pytest.approx(4.2, abs=0.1)


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_hostile_films_give_frames_or_an_error_of_the_tree(form: str) -> None:
    av = pytest.importorskip("av")
    whole = film(av, form, [20, 220] * 5, range(0, 400, 40))
    rng = np.random.default_rng(0)
    for k in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 1 + k % 8):
            data[at] = rng.integers(0, 256)
        try:
            read(bytes(data[: rng.integers(0, len(data) + 1)] if k % 3 == 0 else data))
        except ClientError as error:
            about(error, "body")
    for max_frames, max_pixels in ((9, 1 << 20), (10, 64 * 48 - 1), (10, 64 * 48 * 2)):
        with pytest.raises(TooLarge):
            read(whole, max_frames=max_frames, max_pixels=max_pixels)
