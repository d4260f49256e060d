"""POST /v1/translate, as a client sees it: known translations, what comes back of them, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.tasks.translate.schema import TranslateAnswer
from tests.app.coders import JSON, NPY, PNG, Fault, answered, ask, check_fault, images, opened, rows_of, runs, text
from tests.app.live import LiveServer, form
from tests.app.translators import ERRORS, MOST, PIXELS, SIDE, enlarged, inverted, printed, ramps

PATH = "/v1/translate"


def pictures(n: int) -> list[str]:
    return [text(encode_png(picture)) for picture in ramps(n)]


def photo(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def p_value(error: float) -> float:
    return (1 + sum(held >= error for held in ERRORS)) / (1 + len(ERRORS))


def test_a_picture_is_translated_and_comes_back_as_it_was(translators: LiveServer) -> None:
    answer = answered(ask(translators, PATH, {"images": pictures(3), "to": "negative"}))
    TranslateAnswer.model_validate(answer, strict=True)
    reported = {key: answer[key] for key in ("model", "version", "device", "from", "to")}
    assert reported == {"model": "inverter", "version": "1", "device": "cpu", "from": "positive", "to": "negative"}
    np.testing.assert_array_equal(images(answer["results"]), 255 - ramps(3)[..., 0])
    cycles = [result["cycle"] for result in answer["results"]]
    np.testing.assert_array_equal(images(cycles), ramps(3)[..., 0])
    for cycle in cycles:
        assert cycle["error"] < 1e-7
        assert (cycle["p_value"], cycle["held_out_rows"]) == (1.0, len(ERRORS))


def test_what_is_lost_on_the_way_is_told_with_how_usual_it_is(translators: LiveServer) -> None:
    sent = photo()
    answer = answered(ask(translators, PATH, {"image": text(encode_png(sent)), "from": "photo"}))
    (result,) = answer["results"]
    np.testing.assert_array_equal(opened(result["image"]), printed(sent))
    error = np.abs(sent.astype(float) - printed(sent)).mean() / 255
    assert ERRORS[0] < error < ERRORS[-1]
    assert result["cycle"]["error"] == pytest.approx(error, abs=1e-6)
    assert result["cycle"]["p_value"] == pytest.approx(p_value(error))
    np.testing.assert_array_equal(opened(result["cycle"]["image"]), printed(sent))


def test_of_the_way_back_the_other_direction_is_the_cycle(translators: LiveServer) -> None:
    sent = printed(photo())
    answer = answered(ask(translators, PATH, {"image": text(encode_png(sent)), "to": "photo"}))
    assert (answer["from"], answer["to"]) == ("print", "photo")
    np.testing.assert_array_equal(opened(answer["results"][0]["image"]), sent)
    assert answer["results"][0]["cycle"]["error"] < 1e-6


def test_domains_may_differ_in_size_and_colours_and_order_of_axes(translators: LiveServer) -> None:
    answer = answered(ask(translators, PATH, {"images": pictures(2), "from": "small", "to": "large"}))
    np.testing.assert_array_equal(images(answer["results"]), enlarged(ramps(2)))
    assert all(result["cycle"]["error"] < 1e-6 for result in answer["results"])
    back = answered(ask(translators, PATH, {"image": answer["results"][1]["image"], "to": "small"}))
    np.testing.assert_array_equal(opened(back["results"][0]["image"]), ramps(2)[1, :, :, 0])


def test_the_translation_is_rounded_before_it_is_sent_back(translators: LiveServer) -> None:
    # A coloured picture's mean of twelve numbers is no grey level: what comes back is that of the rounded one.
    large = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    large[::2] = 1
    answer = answered(ask(translators, PATH, {"image": text(encode_png(large)), "to": "small"}))
    small = opened(answer["results"][0]["image"])
    returned = opened(answer["results"][0]["cycle"]["image"])
    np.testing.assert_array_equal(returned, enlarged(small[None, :, :, None])[0])
    assert answer["results"][0]["cycle"]["error"] == pytest.approx(np.abs(large / 255 - returned / 255).mean())


def test_without_the_cycle_the_way_back_is_not_run(translators: LiveServer) -> None:
    before = runs(translators, "inverter", "negative_to_positive")
    answer = answered(ask(translators, PATH, {"images": pictures(2), "to": "negative", "cycle": False}))
    assert [result["cycle"] for result in answer["results"]] == [None, None]
    in_query = answered(ask(translators, PATH, {"images": pictures(2)}, "to=negative&cycle=false"))
    assert in_query == answer
    assert runs(translators, "inverter", "negative_to_positive") == before
    again = answered(ask(translators, PATH, {"images": pictures(2)}, "to=negative&cycle=true"))
    assert again["results"][0]["cycle"]
    assert runs(translators, "inverter", "negative_to_positive") > before


@pytest.mark.parametrize("options", [{"from": "positive"}, {"to": "negative"}, {"from": "positive", "to": "negative"}])
def test_of_two_domains_one_is_enough(translators: LiveServer, options: dict[str, str]) -> None:
    answer = answered(ask(translators, PATH, {"image": pictures(1)[0], **options}))
    assert (answer["from"], answer["to"]) == ("positive", "negative")


def test_a_domain_finds_its_model_where_none_is_named(translators: LiveServer) -> None:
    found = {
        domain: answered(ask(translators, PATH, {"image": text(encode_png(photo())), "to": domain}))["model"]
        for domain in ("negative", "print", "large")
    }
    assert found == {"negative": "inverter", "print": "printer", "large": "enlarger"}


def test_every_form_of_body_is_read_the_same(translators: LiveServer) -> None:
    sent = ramps(2)
    whole = answered(ask(translators, PATH, {"images": [text(encode_png(row)) for row in sent], "to": "negative"}))
    nested = answered(ask(translators, PATH, {"images": sent.tolist(), "to": "negative"}))
    kind, body = form(*[("image", encode_png(row), "a.png") for row in sent], ("to", b"negative"))
    in_form = answered(ask(translators, PATH, body, kind=kind))
    as_rows = answered(ask(translators, PATH, encode_npy(sent), "to=negative", kind=NPY))
    alone = answered(ask(translators, PATH, encode_png(sent[0]), "to=negative", kind=PNG))
    assert whole == nested == in_form == as_rows
    assert alone["results"] == whole["results"][:1]


def test_pictures_come_as_one_picture_a_grid_or_rows(translators: LiveServer) -> None:
    body = {"images": pictures(4), "to": "negative"}
    one = ask(translators, PATH, {"image": pictures(1)[0], "to": "negative"}, accept=PNG)
    np.testing.assert_array_equal(opened(one.body), 255 - ramps(1)[0, :, :, 0])
    grid = opened(ask(translators, PATH, body, accept=PNG).body)
    assert grid.shape == (2 * SIDE + 2, 2 * SIDE + 2)
    np.testing.assert_array_equal(grid[-SIDE:, -SIDE:], 255 - ramps(4)[3, :, :, 0])
    assert opened(ask(translators, PATH, body, "columns=4", accept=PNG).body).shape == (SIDE, 4 * SIDE + 6)
    rows = rows_of(ask(translators, PATH, body, accept=NPY))
    assert (rows.dtype, rows.shape) == (np.float32, (4, SIDE, SIDE, 1))
    np.testing.assert_allclose(rows, inverted(ramps(4)), atol=1e-6)


def test_a_cycle_is_shown_from_left_to_right(translators: LiveServer) -> None:
    body = {"images": pictures(2), "to": "large", "layout": "cycle", "columns": 1}
    page = opened(ask(translators, PATH, body, accept=PNG).body)
    assert page.shape == (4 * SIDE + 2, 4 * SIDE + 4, 3)  # a row each; grey beside coloured
    middle = slice(SIDE // 2, SIDE // 2 + SIDE)
    np.testing.assert_array_equal(page[middle, :SIDE], ramps(2)[0].repeat(3, axis=2))
    np.testing.assert_array_equal(page[: 2 * SIDE, SIDE + 2 : 3 * SIDE + 2], enlarged(ramps(2))[0])
    np.testing.assert_array_equal(page[middle, -SIDE:], page[middle, :SIDE])
    assert (page[: SIDE // 2, :SIDE] == 255).all()


def test_pairs_stand_above_each_other(translators: LiveServer) -> None:
    page = opened(ask(translators, PATH, {"images": pictures(2), "to": "negative", "layout": "pairs"}, accept=PNG).body)
    assert page.shape == (2 * SIDE + 2, 2 * SIDE + 2)
    np.testing.assert_array_equal(page[:SIDE, -SIDE:], ramps(2)[1, :, :, 0])
    np.testing.assert_array_equal(page[-SIDE:, -SIDE:], 255 - ramps(2)[1, :, :, 0])


def test_headers_tell_how_much_to_trust_each_picture_of_an_answer_without_json(translators: LiveServer) -> None:
    sent = [photo(1), printed(photo(2))]
    body = {"images": [text(encode_png(picture)) for picture in sent], "to": "print"}
    results = answered(ask(translators, PATH, body))["results"]
    for accept in (PNG, NPY):
        reply = ask(translators, PATH, body, accept=accept)
        for header, key in (("x-cycle-error", "error"), ("x-cycle-p-value", "p_value")):
            reported = [float(value) for value in str(reply.header(header)).split(",")]
            np.testing.assert_allclose(reported, [result["cycle"][key] for result in results], rtol=1e-3)
        assert reply.header("x-model") == "printer/1"
    without = ask(translators, PATH, {**body, "cycle": False}, accept=PNG)
    assert without.header("x-cycle-error") is None
    assert b"x-cycle" not in json.dumps(ask(translators, PATH, body).headers).encode()


def test_other_pictures_beside_it_change_nothing(translators: LiveServer) -> None:
    many = answered(ask(translators, PATH, {"images": pictures(MOST), "to": "negative"}))["results"]
    for i in (0, 11, MOST - 1):
        assert answered(ask(translators, PATH, {"image": pictures(MOST)[i], "to": "negative"}))["results"] == [many[i]]


IMAGE = pictures(1)[0]

# name -> (body, query, accept, status, subject, words that the answer must have)
FAULTS: dict[str, Fault] = {
    "no domain": (
        {"image": IMAGE},
        "",
        JSON,
        422,
        "to",
        ("positive to negative and negative to positive", "photo to print", "small to large", "neither"),
    ),
    "no domain, of a model": (
        {"image": IMAGE, "model": "printer"},
        "",
        JSON,
        422,
        "to",
        ("model 'printer' translates photo to print and print to photo",),
    ),
    "an unknown domain": (
        {"image": IMAGE, "to": "negativ"},
        "",
        JSON,
        422,
        "to",
        ("did you mean 'negative'", "large, negative, photo, positive, print, small"),
    ),
    "an unknown domain to translate from": ({"image": IMAGE, "from": "tiny"}, "", JSON, 422, "from", ("'tiny'",)),
    "another model's domain": (
        {"image": IMAGE, "to": "negative", "model": "printer"},
        "",
        JSON,
        422,
        "to",
        ("no domain 'negative'", "photo to print"),
    ),
    "from a domain to itself": (
        {"image": IMAGE, "from": "photo", "to": "photo"},
        "",
        JSON,
        422,
        "to",
        ("nothing translates from 'photo' to 'photo'", "photo to print or print to photo"),
    ),
    "domains of two models": (
        {"image": IMAGE, "from": "photo", "to": "large"},
        "",
        JSON,
        422,
        "to",
        ("nothing translates from 'photo' to 'large'",),
    ),
    "a domain that is a number": ({"image": IMAGE, "to": 1}, "", JSON, 422, "body.to", ("text", "1")),
    "a domain in both places": ({"image": IMAGE, "to": "print"}, "to=photo", JSON, 422, "body.to", ("more than once",)),
    "a domain twice": (b'{"to": "print", "to": "photo"}', "", JSON, 422, "body.to", ("more than once",)),
    "an unknown field": ({"image": IMAGE, "form": "photo"}, "", JSON, 422, "body.form", ("did you mean 'from'",)),
    "a cycle that is a text": ({"image": IMAGE, "to": "print", "cycle": "no"}, "", JSON, 422, "body.cycle", ("'no'",)),
    "a cycle that is a number in the query": (
        {"image": IMAGE, "to": "print"},
        "cycle=2",
        JSON,
        422,
        "query.cycle",
        ("true or false", "'2'"),
    ),
    "a layout of JSON": ({"image": IMAGE, "to": "print", "layout": "cycle"}, "", JSON, 422, "layout", (PNG,)),
    "an unknown layout": (
        {"image": IMAGE, "to": "print", "layout": "triptych"},
        "",
        PNG,
        422,
        "layout",
        ("pictures or pairs or cycle",),
    ),
    "the layout cycle without a cycle": (
        {"image": IMAGE, "to": "print", "layout": "cycle", "cycle": False},
        "",
        PNG,
        422,
        "layout",
        ("cycle is false",),
    ),
    "columns of rows": ({"image": IMAGE, "to": "print", "columns": 2}, "", NPY, 422, "columns", (PNG,)),
    "no picture": ({"to": "print"}, "", JSON, 422, "body.image", ("image, images",)),
    "no body": (None, "to=print", JSON, 422, "body", ("a picture",)),
    "a picture that is none": ({"image": "aGFsbG8=", "to": "print"}, "", JSON, 415, "body.image", ("PNG",)),
    "pixels of another size": ({"image": [[0] * 4] * 4, "to": "print"}, "", JSON, 422, "body.image", ("8 rows",)),
    "more pictures than the limit": (
        {"images": [IMAGE] * (MOST + 1), "to": "print"},
        "",
        JSON,
        413,
        "images",
        (str(MOST),),
    ),
    "a model that classifies": (
        {"image": IMAGE, "to": "print", "model": "shades"},
        "",
        JSON,
        422,
        "model",
        ("made to classify, not to translate",),
    ),
    "an unknown model": ({"image": IMAGE, "to": "print", "model": "printr"}, "", JSON, 404, "model", ("printer",)),
    "an unknown version": ({"image": IMAGE, "to": "negative", "version": "7"}, "", JSON, 404, "version", ("1",)),
    "no such form of answer": ({"image": IMAGE, "to": "print"}, "", "image/jpeg", 406, "header.accept", (PNG, NPY)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_named(translators: LiveServer, fault: Fault) -> None:
    check_fault(translators, PATH, fault)


def test_what_counts_are_the_pixels_that_are_made(translators: LiveServer) -> None:
    answered(ask(translators, PATH, {"images": pictures(20), "to": "large"}))
    details = ask(translators, PATH, {"images": pictures(21), "to": "large"}).problem(413)
    assert (details["subject"], details["expected"]) == ("images", f"at most {PIXELS} pixels")


def test_rows_have_the_shape_of_the_domain(translators: LiveServer) -> None:
    details = ask(translators, PATH, encode_npy(ramps(2)), "to=print", kind=NPY).problem(422)
    assert (details["expected"], details["got"]) == ("(rows, 8, 8, 3)", "shape (2, 8, 8, 1)")


def test_a_deadline_that_cannot_be_kept_is_told(translators: LiveServer) -> None:
    ask(translators, PATH, {"image": IMAGE, "to": "print"}, x_request_deadline_ms="0").problem(504)


def test_every_example_answers_200_as_it_stands(translators: LiveServer) -> None:
    document = translators.get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    shown = operation["requestBody"]["content"][JSON]["examples"]
    ways = {name.partition(": ")[::2] for name in shown}
    assert {model for model, _ in ways} == {"inverter", "printer", "enlarger"}
    for example in shown.values():
        answered(ask(translators, PATH, example["value"]))
    (domains,) = [p["schema"]["enum"] for p in operation["parameters"] if p["name"] == "from"]
    assert domains == ["large", "negative", "photo", "positive", "print", "small"]


def test_the_first_commands_on_the_landing_page_name_a_domain(translators: LiveServer) -> None:
    page = translators.get("/").body.decode()
    assert "translate?model=printer&amp;to=print" in page
