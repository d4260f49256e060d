"""One server for all tests of the app that need no other settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app import denoisers as denoised
from tests.app import translators as translated
from tests.app.coders import MOST, SIDE, make_coders
from tests.app.denoisers import make_denoisers
from tests.app.drawers import make_drawers
from tests.app.live import LiveServer, make_models, open_server
from tests.app.translators import make_translators
from tests.made_models import PHOTO, make_classifier_folder
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


@pytest.fixture(scope="session")
def coders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that code pictures and decode them."""
    root = tmp_path_factory.mktemp("coders")
    make_coders(root)
    with open_server(
        root,
        default_models={"reconstruct": "plain", "generate": "normal"},
        max_rows_per_request=MOST,
        max_body_bytes=1 << 20,
        max_pixels=MOST * SIDE * SIDE,
        grace_s=2,
    ) as opened:
        yield opened


@pytest.fixture(scope="session")
def drawers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that draw: by taking noise away, and in one evaluation."""
    root = tmp_path_factory.mktemp("drawers")
    make_drawers(root)
    with open_server(
        root,
        default_models={"generate": "shades"},
        max_rows_per_request=MOST,
        max_body_bytes=1 << 20,
        grace_s=2,
    ) as opened:
        yield opened


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with tables to classify and to regress, beside a classifier of pictures."""
    root = tmp_path_factory.mktemp("tables")
    make_classifier_folder(root, "shades", picture=PHOTO)
    make_table_classifier_folder(root)
    make_grey_folder(root)
    make_regressor_folder(root)
    make_regressor_folder(root, "bare", None)
    make_regressor_folder(root, "steep", None, slope=10)
    make_regressor_folder(root, "unsure", (1.0, 2.0))
    with open_server(
        root,
        default_models={"classify": "shades"},
        max_rows_per_request=100,
        max_body_bytes=2 << 20,
        grace_s=2,
    ) as opened:
        yield opened


@pytest.fixture(scope="session")
def translators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that translate."""
    root = tmp_path_factory.mktemp("translators")
    make_translators(root)
    with open_server(
        root,
        default_models={"translate": "inverter"},
        max_rows_per_request=translated.MOST,
        max_body_bytes=1 << 20,
        max_pixels=translated.PIXELS,
        grace_s=2,
    ) as opened:
        yield opened


@pytest.fixture(scope="session")
def denoisers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of models that take noise away, of pictures of their own size and of photos."""
    root = tmp_path_factory.mktemp("denoisers")
    make_denoisers(root)
    with open_server(
        root,
        default_models={"denoise": "gauss"},
        max_rows_per_request=denoised.MOST,
        max_body_bytes=1 << 20,
        max_pixels=denoised.PIXELS,
        grace_s=2,
    ) as opened:
        yield opened
