"""The CycleGAN's report, read back with a strict parser: what it shows of made-up translations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.core.manifest import DataSource, DigitPicture, Domain, Graph, Made, Manifest, Measure, TensorSpec, Translation
from app.core.manifest.latent import Anomaly
from tests.training.reporting.test_reports import Page
from training.families.cyclegan.metrics import ScoredDirection, figures
from training.families.cyclegan.report import CycleReport
from training.metrics.onnx_model import Latency

SIDE, ROWS = 8, 130
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def manifest() -> Manifest:
    shape = ("rows", SIDE, SIDE, 1)
    graphs = {
        name: Graph(
            file=f"{name}.onnx",
            sha256="0" * 64,
            inputs=(TensorSpec(name="image", dtype="uint8", shape=shape),),
            outputs=(TensorSpec(name="translated", dtype="float32", shape=shape),),
        )
        for name in ("dim_to_bright", "bright_to_dim")
    }
    picture = DigitPicture(kind="digit", height=SIDE, width=SIDE, box=6)
    errors = Anomaly(errors=tuple(float(e) for e in np.linspace(0, 0.02, 39)))
    return Manifest(
        schema_version=1,
        name="lamps",
        version="3",
        task="translate",
        modality="image",
        title="Lamps & shades",
        summary="Turns lamps up and down.",
        graphs=graphs,
        labels=("a<b", "c"),
        domains=(
            Domain(name="dim", title="Dim lamps", picture=picture),
            Domain(name="bright", title="Bright lamps", picture=picture),
        ),
        translations=(
            Translation(graph="dim_to_bright", source="dim", target="bright", cycle=errors),
            Translation(graph="bright_to_dim", source="bright", target="dim", cycle=errors),
        ),
        max_rows=64,
        quality=(
            Measure(name="accuracy_dim_to_bright", value=0.95, protocol="read", rows=ROWS, seeds=(0,), goal=0.97),
            Measure(
                name="psnr_dim_to_bright", value=24.0, unit="dB", protocol="psnr", rows=ROWS, seeds=(0,), goal=22.0
            ),
        ),
        data=DataSource(
            name="Lamps",
            source="https://example.org",
            licence="CC0",
            rows_train=9,
            rows_held_out=39,
            rows_test=ROWS,
            note="lamps turned up",
        ),
        made=Made(
            command="python -m training cyclegan --pair lamps",
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


def translate(source: str, x: Pixels) -> Floats:
    made = x.astype(np.float32) / 255
    return np.clip(made * 2, 0, 1) if source == "dim" else made / 2


def there_and_back(source: str, x: Pixels) -> tuple[Floats, Floats]:
    made = translate(source, x)
    other = "bright" if source == "dim" else "dim"
    return made, translate(other, np.rint(made * 255).astype(np.uint8))


def bright_pixels() -> NDArray[np.float64]:
    return scored()[0].truth / 255


def scored() -> list[ScoredDirection]:
    rng = np.random.default_rng(0)
    bright = rng.integers(0, 128, (ROWS, SIDE, SIDE, 1), dtype=np.uint8) * 2
    dim = (bright // 2).astype(np.uint8)
    y = np.arange(ROWS) % 2
    found = []
    for i, (source, x, truth) in enumerate((("dim", dim, bright), ("bright", bright, dim))):
        made, returned = there_and_back(source, x)
        made = made * np.float32(0.999)
        read = y.copy()
        read[:5] = 1 - y[:5] if i == 0 else y[:5]
        way = manifest().translations[i]
        found.append(
            ScoredDirection(way=way, given=x, made=made, truth=truth, returned=returned, read=read, read_truth=y, y=y)
        )
    return found


@pytest.fixture(scope="module")
def page() -> Page:
    history = [
        {
            "step": 250.0 * (i + 1),
            "cycle": 0.1 / (i + 1),
            "identity": 0.1,
            "critic_right": 0.7,
            **{f"held_{kind}_{way}": 1.0 + i for kind in ("cycle", "psnr") for way in ("there", "back")},
        }
        for i in range(5)
    ]
    made = CycleReport(
        manifest=manifest(),
        history=history,
        scored=scored(),
        there_and_back=there_and_back,
        translate=translate,
        plain=scored()[0].given[::-1].copy(),
        latency=[Latency(rows=1, median_ms=0.5, p95_ms=0.7, repeats=20, device="a processor")],
    )
    return Page(made.page().html())


def test_the_page_opens_with_what_is_kept_and_how_near_the_truth_it_is(page: Page) -> None:
    assert "never saw a pair" in page.text
    assert "from dim lamps to bright lamps, a reference classifier still reads 96.2 % of the digits" in page.text
    assert "missed by 2.00 points" in page.text
    assert "at least 22.00 dB ✓ reached" in page.text


def test_every_section_is_there(page: Page) -> None:
    found = [attrs.get("id") for attrs in page.all("section")]
    expected = [
        "figures",
        "domains",
        "dim",
        "bright",
        "labels",
        "failures",
        "foreign",
        "hidden",
        "training",
        "latency",
        "made",
    ]
    assert found == expected


def test_what_was_lost_is_counted_and_named(page: Page) -> None:
    assert "5 of 130 are read as another digit although their true picture is not" in page.text
    assert "a<b read as c, c read as a<b" in page.text  # escaped on the way, or the parser had found a tag


def test_pictures_of_neither_domain_are_tried_both_ways(page: Page) -> None:
    assert page.text.count("upside down") == page.text.count("as a negative") == 2
    assert page.text.count("digits as they are in the data set") == 2


def test_figures_are_worked_out_of_the_pictures() -> None:
    found = figures(scored())
    assert found["accuracy_dim_to_bright"] == pytest.approx(125 / 130)
    assert found["accuracy_bright_to_dim"] == found["accuracy_real_dim"] == 1
    assert found["mae_cycle_dim"] == pytest.approx(0, abs=1e-6)
    assert found["psnr_dim_to_bright"] == pytest.approx(
        -20 * np.log10(0.001 * np.sqrt((bright_pixels() ** 2).mean())), abs=0.01
    )
