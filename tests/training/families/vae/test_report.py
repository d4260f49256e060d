"""The VAE's report, read back with a strict parser, and the pictures that it is made of."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.core.manifest import DataSource, DigitPicture, Graph, Made, Manifest, Measure, TensorSpec
from app.core.manifest.latent import Latent
from tests.training.reporting.test_reports import Page
from training.families.vae.report import VaeReport
from training.metrics.onnx_model import Latency
from training.reporting import mosaics

SIDE = 4


def manifest(size: int) -> Manifest:
    shape = ("rows", SIDE, SIDE, 1)
    code = [TensorSpec(name=name, dtype="float32", shape=("rows", size)) for name in ("mu", "logvar", "latent")]
    image = TensorSpec(name="image", dtype="uint8", shape=shape)
    return Manifest(
        schema_version=1,
        name="strokes",
        version="2",
        task="reconstruct",
        modality="image",
        title="Strokes & dots",
        summary="Codes strokes.",
        graphs={
            "encoder": Graph(file="encoder.onnx", sha256="0" * 64, inputs=(image,), outputs=tuple(code[:2])),
            "decoder": Graph(
                file="decoder.onnx",
                sha256="0" * 64,
                inputs=(code[2],),
                outputs=(TensorSpec(name="image", dtype="float32", shape=shape),),
            ),
        },
        labels=("a<b", "c"),
        picture=DigitPicture(kind="digit", height=SIDE, width=SIDE, box=3),
        max_rows=64,
        latent=Latent(size=size, low=(-2.0,) * size, high=(2.0,) * size, prior="normal"),
        quality=(
            Measure(name="nll", value=85.5, unit="nats", protocol="a bound", rows=40, seeds=(0,), goal=86.0),
            Measure(name="kl", value=3.25, unit="nats", protocol="closed form", rows=40, seeds=(0,)),
        ),
        data=DataSource(
            name="Strokes", source="https://example.org", licence="CC0", rows_train=9, rows_held_out=5, rows_test=40
        ),
        made=Made(
            command="python -m training vae --data strokes",
            at="2025-01-01T00:00:00Z",
            train_s=75.0,
            machine="a machine",
            precision="bf16",
            parameters=1234,
            parity_max_abs=1e-6,
            parity_rows=40,
            packages={},
        ),
    )


def decode(latent: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.broadcast_to(1 / (1 + np.exp(-latent[:, :1, None, None])), (len(latent), SIDE, SIDE, 1))


def report(size: int, *, rows: int = 40, data: DataSource | None = None) -> Page:
    def encode(x: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        mu = np.linspace(-1, 1, len(x) * size, dtype=np.float32).reshape(len(x), size)
        return mu, np.zeros_like(mu)

    x = np.random.default_rng(0).integers(0, 256, (rows, SIDE, SIDE, 1), dtype=np.uint8)
    epoch = {"loss": 90.0, "reconstruction": 65.0, "kl": 25.0, "held_loss": 89.0}
    made = VaeReport(
        manifest=manifest(size) if data is None else manifest(size).model_copy(update={"data": data}),
        history=[epoch | {"epoch": i + 1.0} for i in range(12)],
        kl=np.array([2.0, 0.01, 3.0, 0.5, 0.0, 1.0])[:size],
        nll_by_samples={1: 89.0, 10: 87.0, 100: 86.0, 1000: 85.5},
        nll_standard_error=0.25,
        encode=encode,
        decode=decode,
        test_x=x,
        test_y=np.arange(rows) % 2,
        scored_x=np.where(x > 128, np.uint8(255), np.uint8(0)),
        latency=[Latency(rows=1, median_ms=0.5, p95_ms=0.7, repeats=20, device="a processor")],
    )
    return Page(made.page().html())


def headings(page: Page) -> list[str | None]:
    return [attrs.get("id") for attrs in page.all("section")]


def test_the_page_opens_with_the_likelihood_and_its_uncertainty() -> None:
    page = report(6)
    assert "an unseen picture of statically binarised Strokes" in page.text
    assert "85.50 nats ± 0.49 (95 % interval over rows)" in page.text
    assert f"{85.5 / np.log(2) / 16:.3f} bits a pixel" in page.text
    assert "It uses 4 of its 6 latents" in page.text
    assert "at most 86.00 nats ✓ reached" in page.text


def test_used_latents_are_traversed_in_the_order_of_what_they_say() -> None:
    page = report(6)
    strips = [attrs["alt"] for attrs in page.all("img") if (attrs["alt"] or "").startswith("Latent")]
    assert strips == [f"Latent {i} from -3 to 3" for i in (2, 0, 5, 3)]
    assert "the other 2 are not used" in page.text


def test_the_manifold_and_the_plane_are_shown_of_two_latents_alone() -> None:
    assert {"manifold", "plane"}.isdisjoint(headings(report(6)))
    two = report(2)
    assert {"manifold", "plane"} <= set(headings(two))
    assert "a<b" in two.text  # escaped on the way, or the parser had found a tag


def test_the_notes_on_what_was_tried_are_those_of_the_data_set() -> None:
    assert "tried" not in headings(report(6))
    mnist = manifest(6).data.model_copy(update={"spec": "mnist"})
    assert "tried" in headings(report(6, data=mnist))


def test_without_test_rows_the_page_still_shows_samples() -> None:
    found = headings(report(6, rows=0))
    assert "samples" in found
    assert {"reconstructions", "traversals", "interpolations"}.isdisjoint(found)


def sheet(html: str) -> NDArray[np.uint8]:
    found = re.search(r"base64,([^\"]+)", html)
    assert found
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_a_mosaic_holds_every_picture_in_its_place() -> None:
    pictures = np.linspace(0, 1, 6, dtype=np.float32)[:, None, None, None] * np.ones((6, 3, 2, 1), np.float32)
    image = sheet(mosaics.mosaic(pictures, columns=4, alt="six"))
    assert image.shape == (2 * (3 + 2) - 2, 4 * (2 + 2) - 2)
    for i, value in enumerate(np.rint(np.linspace(0, 255, 6))):
        row, column = divmod(i, 4)
        assert (image[row * 5 : row * 5 + 3, column * 4 : column * 4 + 2] == value).all()
    assert (image[5:, 8:10] == 0).all()  # nothing is left over for the last two places


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_beyond_black_and_white_are_cut_off(channels: int) -> None:
    image = sheet(mosaics.mosaic(np.array([-0.5, 1.5])[:, None, None, None] * np.ones((2, 2, 2, channels)), alt=""))
    assert image[0, 0].min() == 0
    assert image[0, -1].max() == 255
