"""POST /v1/translate with texts, as a client sees it: the likeliest texts by brute force, in company, and refusals."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from app.engine.model import Model
from app.tasks.translate.schema import TranslateAnswer
from app.web.translation import is_language
from tests.app.live import LiveServer, Reply, open_server
from tests.app.texts import SOURCE, SPECIAL, TARGET, make_turner, read_manifest, tables
from tests.made_models import change_manifest

PATH = "/v1/translate"
END, START = 3, 2
PICTURE = [[0] * 8] * 8


def post(
    server: LiveServer, body: Any, *, query: str = "", kind: str = "application/json", accept: str = "application/json"
) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.ask("POST", PATH + query, data, {"Content-Type": kind, "Accept": accept})


def events_of(reply: Reply) -> list[tuple[str, Any]]:
    """Name and data of each."""
    blocks = [block.split("\n") for block in reply.body.decode().strip().split("\n\n")]
    return [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in blocks]


def log_probabilities(text: str, words: tuple[str, ...], seed: int = 0) -> list[float]:
    """Of each of the words as a translation of the text, and of the end behind them, from the tables in float64."""
    fits, follows = (table.astype(np.float64) for table in tables(seed))
    before, found = START, []
    for source, target in zip([*text.split(), ""], [*words, ""], strict=True):
        if not source:
            logits, token = 100.0 * np.eye(len(fits))[END], END
        else:
            token = len(SPECIAL) + TARGET.index(target)
            logits = fits[len(SPECIAL) + SOURCE.index(source)] + follows[before]
        found.append(float(logits[token] - np.log(np.exp(logits).sum())))
        before = token
    return found


def likeliest(text: str, seed: int = 0) -> list[tuple[float, str]]:
    """All translations, the best first."""
    texts = itertools.product(TARGET, repeat=len(text.split()))
    return sorted(((sum(log_probabilities(text, words, seed)), " ".join(words)) for words in texts), reverse=True)


def test_a_text_is_translated_word_by_word_with_where_each_was_found(writers: LiveServer) -> None:
    answer = post(writers, {"text": "The man sees the dog"}).json()
    TranslateAnswer.model_validate(answer, strict=True)
    head = {key: answer[key] for key in ("model", "version", "device", "from", "to")}
    assert head == {"model": "turner", "version": "1", "device": "cpu", "from": "en", "to": "pt"}
    (result,) = answer["results"]
    words = ("o", "homem", "vê", "o", "cão")
    assert (result["text"], result["finish"]) == (" ".join(words), "end")
    want = log_probabilities("the man sees the dog", words)
    assert result["log_probability"] == pytest.approx(sum(want), abs=1e-3)
    assert [one["probability"] for one in result["tokens"]] == pytest.approx(np.exp(want[:-1]), abs=1e-3)
    assert "".join(one["text"] for one in result["tokens"]) == result["text"]
    assert result["source_tokens"] == ["The", "man", "sees", "the", "dog"]
    np.testing.assert_array_equal(result["alignment"], np.eye(5))
    assert (result["alternatives"], result["unknown"]) == ([], [])


@pytest.mark.parametrize("text", ["the red train", "dog sees man"])
def test_a_beam_finds_the_likeliest_texts_of_all(writers: LiveServer, text: str) -> None:
    (result,) = post(writers, {"text": text, "beam": 4, "n_best": 3}).json()["results"]
    found = [result, *result["alternatives"]]
    want = likeliest(text)[:3]
    assert [one["text"] for one in found] == [words for _, words in want]
    assert [one["log_probability"] for one in found] == pytest.approx([p for p, _ in want], abs=1e-3)


def test_an_answer_alone_and_in_company_is_the_same_token_for_token(writers: LiveServer) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(SOURCE, n)) for n in (1, 2, 3, 5, 8, 13, 16, 4)]
    bodies = [{"text": text, "beam": beam} for text in texts for beam in (1, 3)]
    alone = [post(writers, body).json() for body in bodies]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda body: post(writers, body).json(), bodies * 3))
    assert together == alone * 3
    several = post(writers, {"text": texts}).json()["results"]
    assert several == [answer["results"][0] for answer in alone[::2]]


def test_steps_of_requests_at_different_positions_share_runs(writers: LiveServer) -> None:
    counters = writers.app.state.registry.catalog.get("turner").counters["step"]
    before = counters.runs
    texts = ["the man", "the man sees the dog", "red train", "dog", "the red dog sees the train"]
    results = post(writers, {"text": texts}).json()["results"]
    assert [len(one["tokens"]) for one in results] == [2, 5, 2, 1, 6]
    alone = sum(len(one["tokens"]) + 1 for one in results)
    assert counters.runs - before < alone / 2


def test_the_texts_of_a_list_wait_as_parts_of_one_request(writers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = list[tuple[str, int]]()

    def noted(name: str) -> Callable[..., Any]:
        method = getattr(Model, name)

        def call(self: Model, *args: Any, of: int, **options: Any) -> Any:
            parts.append((name, of))
            return method(self, *args, of=of, **options)

        return call

    for name in ("run", "sample"):
        monkeypatch.setattr(Model, name, noted(name))
    assert post(writers, {"text": ["the man", "dog", "red train"]}).status == 200
    assert sorted(parts) == [("run", 3)] * 3 + [("sample", 3)] * 3


def test_what_the_model_never_saw_is_named(writers: LiveServer) -> None:
    (result,) = post(writers, {"text": "the cat sees the Katze, the cat"}).json()["results"]
    assert result["unknown"] == ["cat", "Katze"]


def test_a_special_token_in_a_text_is_unknown_words(writers: LiveServer) -> None:
    for special in SPECIAL:
        word = special.strip("</>")
        texts = [f"the {special} dog", f"the {special.replace(word, 'Katze')} dog"]
        result, other = post(writers, {"text": texts}).json()["results"]
        assert result["unknown"] == [word]
        assert (result["text"], result["alignment"]) == (other["text"], other["alignment"])


def test_as_plain_text_each_translation_is_a_line(writers: LiveServer) -> None:
    reply = post(writers, b"the dog", kind="text/plain", accept="text/plain")
    assert reply.header("content-type") == "text/plain; charset=utf-8"
    assert reply.body.decode() == "o cão\n"
    assert post(writers, {"text": ["the dog", "red train"]}, accept="text/plain").body.decode().count("\n") == 2


def test_a_column_is_translated_line_by_line(writers: LiveServer) -> None:
    rows = b"id;text\n1;the dog\n2;the cat\n"
    lines = post(writers, rows, kind="text/csv", accept="text/csv").body.decode().splitlines()
    assert lines[0] == "text,translation,log_probability,unknown"
    assert lines[1].split(",")[:2] == ["the dog", "o cão"]
    assert lines[2].endswith(",cat")


def test_a_stream_has_an_event_for_each_token_and_ends_with_the_plain_answer(writers: LiveServer) -> None:
    named = events_of(post(writers, {"text": "the man sees the dog"}, accept="text/event-stream"))
    plain = post(writers, {"text": "the man sees the dog"}).json()
    assert [name for name, _ in named] == ["token"] * 5 + ["final"]
    assert named[-1][1] == plain
    tokens = [data for _, data in named[:-1]]
    result = plain["results"][0]
    assert [data["index"] for data in tokens] == list(range(5))
    assert [{"text": data["text"], "probability": data["probability"]} for data in tokens] == result["tokens"]
    assert [data["attention"] for data in tokens] == result["alignment"]


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ({}, "turner"),
        ({"from": "en"}, "turner"),
        ({"to": "en"}, "wide"),
        ({"from": "de", "to": "en"}, "wide"),
        ({"from": "DE-at", "to": "en-GB"}, "wide"),
        ({"to": "pt-BR"}, "turner"),
        ({"model": "wide"}, "wide"),
    ],
)
def test_the_languages_choose_the_model(writers: LiveServer, options: dict[str, str], model: str) -> None:
    assert post(writers, {"text": "the dog", **options}).json()["model"] == model


@pytest.mark.parametrize(
    ("code", "language", "meant"),
    [
        (None, "pt", True),
        ("PT", "pt", True),
        ("pt-BR", "pt", True),
        ("pt", "pt-BR", True),
        ("pt-br", "pt-BR", True),
        ("pt-PT", "pt-BR", False),
        ("p", "pt", False),
        ("", "pt", False),
        ("-BR", "pt", False),
    ],
)
def test_a_region_is_another_only_where_the_model_names_one(code: str | None, language: str, meant: bool) -> None:
    assert is_language(code, language) == meant


@pytest.fixture(scope="module")
def by_sentences(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    models = tmp_path_factory.mktemp("sentences")
    folder = make_turner(models)
    change_manifest(folder, text={**read_manifest(folder)["text"], "sentences": True})
    with open_server(models) as server:
        yield server


def test_a_text_is_translated_sentence_by_sentence(by_sentences: LiveServer) -> None:
    def translated(text: str) -> dict[str, Any]:
        result: dict[str, Any] = post(by_sentences, {"text": text, "n_best": 2}).json()["results"][0]
        return result

    one, other, both = translated("The dog"), translated("Red man"), translated("The dog\n\nRed man")
    assert both["text"] == f"{one['text']}\n\n{other['text']}"
    assert both["log_probability"] == pytest.approx(one["log_probability"] + other["log_probability"], abs=2e-4)
    assert [token["probability"] for token in both["tokens"]] == [
        token["probability"] for part in (one, other) for token in part["tokens"]
    ]
    assert both["source_tokens"] == one["source_tokens"] + other["source_tokens"]
    width, rows = len(one["source_tokens"]), len(one["tokens"])
    assert [row[:width] for row in both["alignment"][:rows]] == one["alignment"]
    assert [row[width:] for row in both["alignment"][rows:]] == other["alignment"]
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in both["alignment"])
    second = [part["alternatives"][0]["text"] for part in (one, other)]
    assert both["alternatives"][0]["text"] == "\n\n".join(second)


def test_sentences_are_streamed_one_after_the_other(by_sentences: LiveServer) -> None:
    text = "The dog\nRed man\nThe train"
    plain = post(by_sentences, {"text": text, "beam": 1}).json()
    *tokens, (name, final) = events_of(post(by_sentences, {"text": text}, accept="text/event-stream"))
    assert (name, final) == ("final", plain)
    result = plain["results"][0]
    assert [data["index"] for _, data in tokens] == list(range(len(result["tokens"])))
    assert [data["probability"] for _, data in tokens] == [token["probability"] for token in result["tokens"]]
    assert [data["attention"] for _, data in tokens] == result["alignment"]


def test_a_sentence_that_is_too_long_is_named(by_sentences: LiveServer) -> None:
    text = "The dog\n" + "red " * 40 + "\nThe man"
    assert "tokens in sentence 2" in post(by_sentences, {"text": text}).problem(413)["detail"]
    assert post(by_sentences, {"text": "The dog\n" * 20}).status == 200


def test_pictures_go_to_the_model_of_pictures(writers: LiveServer) -> None:
    reply = post(writers, {"image": [[0] * 8 for _ in range(8)], "to": "negative"})
    assert reply.json()["model"] == "inverter"


@pytest.mark.parametrize(
    ("body", "status", "subject", "words"),
    [
        ({"text": "the dog", "to": "fr"}, 422, "to", ["'fr'", "turner' translates en to pt; ", "wide"]),
        ({"text": "the dog", "from": "en", "to": "en"}, 422, "to", ["'en' to 'en'", "en to pt or de to en"]),
        ({"text": "the dog", "model": "turner", "from": "de"}, 422, "from", ["'de'", "en to pt"]),
        ({"text": "the dog", "model": "inverter"}, 422, "body.text", ["takes pictures", "not texts"]),
        ({"image": [[0] * 8] * 8, "model": "turner"}, 422, "body.image", ["takes texts", "not pictures"]),
        ({"text": "the dog", "model": "teller"}, 422, "model", ["made to classify, not to translate"]),
        ({"text": "the dog", "beam": 0}, 422, "beam", ["1 to 4"]),
        ({"text": "the dog", "beam": 5}, 422, "beam", ["1 to 4", "turner"]),
        ({"text": "the dog", "beam": 2, "n_best": 3}, 422, "n_best", ["1 to 2"]),
        ({"text": "the dog", "n_best": 9}, 422, "n_best", ["1 to 4"]),
        ({"text": ["the dog"] * 11, "beam": 2}, 413, "text", ["11 inputs with a beam of 2", "at most 20"]),
        ({"text": ["the dog"] * 10_000}, 413, "text", ["10000 texts", "at most 20"]),
        ({"text": "the " * 17}, 413, "body.text", ["17 tokens", "16"]),
        ({"text": ["the", "a\u0007"]}, 422, "body.text[1][1]", ["a control character, U+0007"]),
        ({"text": "the dog", "cycle": True}, 422, "cycle", ["cycle is true, there is no such option with texts"]),
        ({"image": PICTURE, "to": "negative", "beam": 2}, 422, "beam", ["2, there is no such option with pictures"]),
        ({"to": "pt"}, 422, "body.image", ["exactly one of image, images, text"]),
        (b'{"text": "\\udc00"}', 422, "body", ["not JSON"]),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_refused_by_name(
    writers: LiveServer, body: Any, status: int, subject: str, words: list[str]
) -> None:
    post(writers, body).assert_refused(status, subject, words)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b'"text\nthe dog\n', "body: has no header with whole quotes, expected a header with one column 'text'"),
        (b"\n\n", "body: has no header with whole quotes, expected a header with one column 'text'"),
        (b"id,words\n1,a\n", "body: has the header 'id', 'words', expected a header with one column 'text'"),
    ],
)
def test_a_csv_file_without_a_column_of_texts_is_told_what_its_header_is(
    writers: LiveServer, rows: bytes, said: str
) -> None:
    details = post(writers, rows, kind="text/csv").assert_refused(422, "body", [])
    assert details["detail"] == said


@pytest.mark.parametrize(
    ("body", "accept", "status", "words"),
    [
        ({"text": "the dog"}, "image/png", 406, ["image/png is given of pictures"]),
        ({"image": [[0] * 8] * 8, "to": "negative"}, "text/plain", 406, ["text/plain is given of texts"]),
        ({"text": ["the", "dog"]}, "text/event-stream", 422, ["2 texts", "is given of one"]),
        ({"text": "the", "beam": 2}, "text/event-stream", 422, ["beam is 2"]),
        ({"text": "the", "n_best": 2}, "text/plain", 422, ["no n_best", "text/plain has the best text alone"]),
        ({"text": "the", "n_best": 1}, "text/csv", 422, ["no n_best", "text/csv has the best text alone"]),
    ],
)
def test_a_form_that_does_not_fit_is_refused(
    writers: LiveServer, body: Any, accept: str, status: int, words: list[str]
) -> None:
    post(writers, body, accept=accept).assert_refused(status, None, words)


def test_the_model_card_has_the_languages_and_the_limits(writers: LiveServer) -> None:
    card = writers.get("/v1/models/turner").json()
    assert card["languages"] == {"source": "en", "target": "pt"}
    assert (card["text"]["max_tokens"], card["text"]["max_characters"]) == (16, 200)
    assert {name: card["writing"][name] for name in ("max_tokens", "best", "beam")} == {
        "max_tokens": 20,
        "best": 4,
        "beam": 1,
    }
    assert writers.get("/v1/models/inverter").json()["text"] is None


def test_the_document_promises_nothing_of_pictures_where_no_model_reads_them(by_sentences: LiveServer) -> None:
    operation = by_sentences.get("/openapi.json").json()["paths"]["/v1/translate"]["post"]
    assert set(operation["responses"]["200"]["content"]) == {
        "application/json",
        "text/plain",
        "text/csv",
        "text/event-stream",
    }
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names >= {"from", "to", "beam", "n_best"}
    assert not names & {"cycle", "layout", "columns"}
