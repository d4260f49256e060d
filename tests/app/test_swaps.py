"""Models swapped, spoilt and pinned behind a server that is asked all the while."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.codecs.npy import encode_npy
from app.engine.model import now_in_words
from tests.app.engine.lives import publish, spoil_one_bit
from tests.app.live import LiveServer, open_server
from tests.made_models import make_classifier_folder

POLL_S = 0.02
PATIENCE_S = 20
ROW = encode_npy(np.zeros((1, 28, 28, 1), np.uint8))


class Answers:
    """What came back: (status, number of labels) of every answer."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()
        self._came = threading.Condition()

    def enter(self, status: int, labels: int) -> None:
        with self._came:
            self._seen.add((status, labels))
            self._came.notify_all()

    def reach(self, labels: int) -> None:
        """Until an answer has had so many labels."""
        with self._came:
            assert self._came.wait_for(lambda: labels in self.labels, PATIENCE_S)

    @property
    def statuses(self) -> set[int]:
        return {status for status, _ in self._seen}

    @property
    def labels(self) -> set[int]:
        return {labels for _, labels in self._seen}


def labels_served(server: LiveServer) -> int:
    return len(server.get("/v1/models/tiny").json()["labels"])


@contextmanager
def under_load(server: LiveServer, clients: int) -> Iterator[Answers]:
    """Ask all the while, each client on one connection."""
    answers = Answers()
    stop = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        while not stop.is_set():
            connection.request("POST", "/v1/classify?model=tiny", ROW, {"Content-Type": "application/x-npy"})
            response = connection.getresponse()
            content: dict[str, Any] = json.loads(response.read())
            answers.enter(response.status, len(content["results"][0]["probabilities"]) if response.status == 200 else 0)
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        try:
            yield answers
        finally:
            stop.set()
        for one in asking:
            one.result()


@pytest.mark.parametrize("how", ["in place", "as a new version"])
def test_no_request_fails_while_a_model_is_swapped_ten_times(how: str, tmp_path: Path) -> None:
    publish(tmp_path, 3)
    swaps = range(4, 14)
    with open_server(tmp_path, poll_s=POLL_S) as server:
        with under_load(server, clients=4) as answered:
            answered.reach(3)
            for labels in swaps:
                publish(tmp_path, labels, version="1" if how == "in place" else str(labels))
                answered.reach(labels)
                assert labels_served(server) == labels
        assert answered.statuses == {200}
        assert answered.labels == {3, *swaps}
        assert server.get("/metrics").status == 200
        document = server.get("/openapi.json").json()  # made anew: its examples are those of the last one
        shown = document["paths"]["/v1/classify"]["post"]["responses"]["200"]["content"]["application/json"]
        assert len(shown["examples"]["tiny"]["value"]["results"][0]["probabilities"]) == swaps[-1]


def test_a_spoilt_file_is_told_everywhere_and_changes_nothing_for_requests(tmp_path: Path) -> None:
    folder = publish(tmp_path, 3)
    with open_server(tmp_path, poll_s=POLL_S) as server:
        with under_load(server, clients=2) as answered:
            spoil_one_bit(folder)
            server.until(lambda: bool(server.app.state.registry.catalog.refused))
            assert server.get("/health/ready").json()["refused"]
            (folder / "golden.npz").write_bytes(b"not one")
            for page in ("/", "/openapi.json", "/docs", "/v1/models/tiny"):
                assert server.get(page).status == 200
            (refused,) = server.get("/v1/models").json()["refused"]
            assert refused["folder"] == "tiny/1"
            assert "SHA-256" in refused["reason"]
            ready = server.get("/health/ready")
            assert (ready.status, ready.json()["models"]) == (200, ["tiny/1"])
            publish(tmp_path, 4)
            answered.reach(4)
            assert labels_served(server) == 4
        assert answered.statuses == {200}
        assert server.get("/v1/models").json()["refused"] == []


def test_the_default_version_is_shown_with_the_time_since_when(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    with open_server(tmp_path, poll_s=POLL_S) as server:
        first = server.get("/v1/models/tiny").json()
        assert first["default_version"] == "1"
        assert first["loaded_at"] <= first["default_version_since"] <= now_in_words()
        publish(tmp_path, 4, version="2")
        server.until(lambda: server.app.state.registry.catalog.get("tiny").version == "2")
        assert labels_served(server) == 4
        old, new = server.get("/v1/models").json()["models"]
        card = server.get("/v1/models/tiny?version=1").json()
        assert (card["version"], card["default_version"], card["versions"]) == ("1", "2", ["1", "2"])
        assert (old["default"], old["default_version_since"]) == (False, None)
        assert (new["default"], new["default_version_since"]) == (True, card["default_version_since"])
        assert first["loaded_at"] <= card["default_version_since"]


def test_a_pinned_version_answers_and_is_in_the_examples(tmp_path: Path) -> None:
    for version, labels in (("1", 3), ("2", 4)):
        publish(tmp_path, labels, version=version)
    with open_server(tmp_path, pinned_versions={"tiny": "1"}) as server:
        assert server.send("application/x-npy", ROW).json()["version"] == "1"
        assert server.send("application/x-npy", ROW, "version=2").json()["version"] == "2"
        document = server.get("/openapi.json").json()
        shown = document["paths"]["/v1/classify"]["post"]["responses"]["200"]["content"]["application/json"]
        assert shown["examples"]["tiny"]["value"]["version"] == "1"


def test_a_pinned_version_that_is_not_there_is_told_at_the_start_and_to_who_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_classifier_folder(tmp_path)
    with open_server(tmp_path, pinned_versions={"tiny": "2"}) as server:
        reported = "model 'tiny' is pinned to version 2, which is not loaded, there is 1: there is no folder tiny/2"
        assert reported in caplog.text
        assert server.send("application/x-npy", ROW, "model=tiny").problem(404)["detail"] == reported
        assert server.send("application/x-npy", ROW).problem(404)["detail"] == reported
        assert server.send("application/x-npy", ROW, "model=tiny&version=1").status == 200
        (listed,) = server.get("/v1/models").json()["models"]
        assert (listed["default"], listed["default_version_since"]) == (False, None)
