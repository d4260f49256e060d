"""One server for all tests of the app that need no other settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app import denoisers as denoisers_made
from tests.app import translators as translators_made
from tests.app.coders import MOST, SIDE, make_coders
from tests.app.denoisers import make_denoisers
from tests.app.drawers import make_drawers
from tests.app.live import LiveServer, make_models, open_server
from tests.app.texts import make_writers
from tests.app.translators import make_translators
from tests.made_clips import make_watchers
from tests.made_models import PHOTO, make_classifier_folder
from tests.made_sounds import make_hearers
from tests.made_tables import make_grey_folder, make_regressor_folder, make_table_classifier_folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    make_models(root)
    return root


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[LiveServer]:
    with open_server(
        models,
        default_models={"classify": "shades"},
        max_rows_per_request=20,
        max_body_bytes=1 << 20,
        max_pixels=4_000_000,
        body_timeout_s=2.0,
        grace_s=2,
    ) as opened:
        yield opened


def served(
    factory: pytest.TempPathFactory, make: Callable[[Path], None], *, max_body_bytes: int = 1 << 20, **settings: Any
) -> Iterator[LiveServer]:
    """A server of the models that `make` publishes."""
    root = factory.mktemp(make.__name__)
    make(root)
    with open_server(root, max_body_bytes=max_body_bytes, grace_s=2, **settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def coders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that code pictures and decode them."""
    defaults, pixels = {"reconstruct": "plain", "generate": "normal"}, MOST * SIDE * SIDE
    yield from served(
        tmp_path_factory, make_coders, default_models=defaults, max_rows_per_request=MOST, max_pixels=pixels
    )


@pytest.fixture(scope="session")
def drawers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that generate pictures: by removing noise, and in one evaluation."""
    yield from served(tmp_path_factory, make_drawers, default_models={"generate": "shades"}, max_rows_per_request=MOST)


def make_tables(root: Path) -> None:
    make_classifier_folder(root, "shades", picture=PHOTO)
    make_table_classifier_folder(root)
    make_grey_folder(root)
    make_regressor_folder(root)
    make_regressor_folder(root, "bare", None)
    make_regressor_folder(root, "steep", None, slope=10)
    make_regressor_folder(root, "unsure", (1.0, 2.0))


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with tables to classify and to regress, beside a classifier of pictures."""
    defaults = {"classify": "shades"}
    yield from served(
        tmp_path_factory, make_tables, max_body_bytes=2 << 20, default_models=defaults, max_rows_per_request=100
    )


@pytest.fixture(scope="session")
def translators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that translate."""
    defaults, most, pixels = {"translate": "inverter"}, translators_made.MOST, translators_made.PIXELS
    yield from served(
        tmp_path_factory, make_translators, default_models=defaults, max_rows_per_request=most, max_pixels=pixels
    )


@pytest.fixture(scope="session")
def denoisers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that denoise pictures of their own size, and photos."""
    defaults, most, pixels = {"denoise": "gauss"}, denoisers_made.MOST, denoisers_made.PIXELS
    yield from served(
        tmp_path_factory, make_denoisers, default_models=defaults, max_rows_per_request=most, max_pixels=pixels
    )


@pytest.fixture(scope="session")
def hearers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that hear: whole recordings, pieces, and how loud it is; 12 s of sound in a request."""
    yield from served(
        tmp_path_factory,
        make_hearers,
        default_models={"transcribe": "hearer"},
        max_rows_per_request=8,
        max_seconds=12,
        body_timeout_s=2.0,
    )


@pytest.fixture(scope="session")
def watchers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that label frames: of whole clips, and frame by frame."""
    yield from served(
        tmp_path_factory,
        make_watchers,
        default_models={"label-frames": "watcher"},
        max_rows_per_request=60,
        max_pixels=1_000_000,
        body_timeout_s=2.0,
    )


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that read and write text, beside those of pictures."""
    yield from served(
        tmp_path_factory,
        make_writers,
        default_models={"translate": "inverter", "translate.text": "turner", "classify.text": "teller"},
        max_rows_per_request=20,
        body_timeout_s=2.0,
    )
