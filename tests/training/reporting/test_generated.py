"""Sections of reports for generative models: shown in the order of their seeds, and the failures found."""

from __future__ import annotations

import base64
import io
import re
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.core.metric_names import figure, is_better_higher
from training.metrics.reference_classifiers import ReferenceClassifiers
from training.reporting.generated import failures, neighbours, ratio_chart, samples, strips

LABELS = ("left", "right")


class Reader:
    """Reference classifiers that read the brighter half, as surely as it is bright."""

    data = SimpleNamespace(labels=LABELS)

    def probabilities(self, pictures: NDArray[Any]) -> NDArray[np.float32]:
        halves = np.stack([pictures[:, :, :4].mean((1, 2, 3)), pictures[:, :, 4:].mean((1, 2, 3))], axis=1) + 1e-6
        return (halves / halves.sum(axis=1, keepdims=True)).astype(np.float32)


READERS = cast("ReferenceClassifiers", Reader())


def flat(values: list[float]) -> NDArray[np.float32]:
    """Pictures 8 x 8 of one grey each."""
    return np.tile(np.array(values, np.float32)[:, None, None, None], (1, 8, 8, 1))


def sheet(html: str) -> NDArray[np.uint8]:
    found = re.search(r"base64,([^\"]+)", html)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found.group(1)))))


def test_samples_are_the_first_seeds_in_order() -> None:
    html = samples(flat([k / 100 for k in range(120)]))
    shown = sheet(html)
    assert "The first 100 seeds" in html
    assert shown[4, 4] == 0
    assert shown[4, 14] == round(2.55)  # the second picture, a gap of 2 after the first
    assert shown[14, 4] == round(0.2 * 255)  # the second line begins with the 21st
    assert shown.shape == (5 * 10 - 2, 20 * 10 - 2)


def test_samples_of_classes_have_a_column_for_each() -> None:
    requested = np.array([0, 1, 1, 0, 0])
    html = samples(flat([0.0, 0.2, 0.4, 0.6, 0.8]), requested, labels=LABELS)
    shown = sheet(html)
    assert "The first 2 seeds of each class, in columns: left, right." in html
    assert [shown[y, x] for y in (4, 14) for x in (4, 14)] == [0, 51, 102 + 51, 102]


def test_samples_of_classes_are_a_hundred_pictures_at_most() -> None:
    shown = sheet(samples(flat([0.5] * 240), np.arange(240) % 2, labels=LABELS))
    assert shown.shape == (50 * 10 - 2, 2 * 10 - 2)


def test_below_each_picture_are_its_nearest() -> None:
    html = neighbours(flat([0.5, 0.1]), (flat([0.0, 0.2, 0.45, 0.6, 0.9]) * 255).round().astype(np.uint8))
    shown = sheet(html)
    assert [shown[y, 4] for y in (4, 14, 24, 34)] == [128, 115, 153, 51]  # 0.5: 0.45, 0.6, 0.2
    assert "of 5 training pictures" in html
    assert "smallest distance is 0.39" in html  # 8 x 0.0490: 0.45 is 115 of 255


def test_an_interpolation_is_a_line_of_pictures() -> None:
    assert sheet(
        strips(flat([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).reshape(2, 3, 8, 8, 1), "From one to the next.")
    ).shape == (
        17,
        26,
    )


def test_the_least_sure_come_first_with_what_was_read() -> None:
    pictures = flat([0.0, 0.0, 0.0])
    for k, (left, right) in enumerate([(0.9, 0.1), (0.2, 0.8), (0.6, 0.4)]):
        pictures[k, :, :4], pictures[k, :, 4:] = left, right
    html = failures(pictures, np.array([0, 0, 0]), READERS, limit=2)
    assert [int(n) for n in re.findall(r"<span>left</span><i>(\d+)", html)] == [20, 60]
    assert "✗ right</span><i>80" in html
    assert "requested class for 66.7" in html
    plain = failures(pictures, None, READERS, limit=1)
    assert "least sure of any class" in plain
    assert re.findall(r"<span>left</span><i>(\d+)", plain) == ["60"]


def test_ratios_are_shown_over_evaluations() -> None:
    svg = ratio_chart({"heun": [(15, 1.3, 500), (7, 2.0, 500)], "multistep": [(4, 3.0, 500), (8, 1.6, 500)]})
    drawing = ET.fromstring(svg)
    assert len(drawing.findall(".//polyline")) == 2
    assert {text.text for text in drawing.findall(".//text")} >= {"4", "8", "Evaluations", "FD ratio"}
    assert "hollow" not in svg
    assert "pictures" not in svg
    assert ratio_chart({}) == ""


def test_ratios_from_fewer_pictures_are_hollow_and_the_legend_says_so() -> None:
    drawing = ET.fromstring(ratio_chart({"multistep": [(4, 3.0, 10_000), (6, 1.1, 500), (8, 1.6, 10_000)]}))
    dots = sorted(drawing.findall(".//circle"), key=lambda dot: float(dot.attrib["cx"]))
    assert ["hollow" in dot.attrib["class"] for dot in dots] == [False, True, False]
    assert "○ from 500 pictures" in [word.text for word in drawing.findall(".//tspan")]


@pytest.mark.parametrize(
    ("name", "higher", "shown"),
    [
        ("fd_ratio", False, "1.25"),
        ("fd_ratio_pooled", False, "1.25"),
        ("memorisation", True, "1.250"),
        ("recall", True, "125.00\u202f%"),
        ("class_share", True, "125.00\u202f%"),
        ("cas_gap", False, "1.25"),
    ],
)
def test_the_measures_of_generated_pictures_have_their_better_side(name: str, higher: bool, shown: str) -> None:
    assert is_better_higher(name) is higher
    assert figure(1.25, name) == shown


def test_sections_hold_no_reference_to_anywhere() -> None:
    html = samples(flat([0.1, 0.2])) + neighbours(flat([0.1]), flat([0.1, 0.5, 0.6]))
    assert re.findall(r'(?:src|href)="(?!data:)', html) == []
