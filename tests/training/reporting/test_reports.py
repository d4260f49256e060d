"""The report page: read back with a strict parser, for ordinary classifiers and for the odd ones."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.core.decoding.writing import Hypothesis
from app.core.manifest import (
    Calibration,
    DataSource,
    DigitPicture,
    Graph,
    Made,
    Manifest,
    Measure,
    PhotoPicture,
    TensorSpec,
)
from app.core.metric_names import figure, goal_of, verdict
from training.families.translator.report import attention_map
from training.metrics.onnx_model import Latency
from training.reporting.charts import Line, line_chart
from training.reporting.figures import figures
from training.reporting.image_classifier import ClassifierReport
from training.reporting.page import write

ROOT = Path(__file__).parents[3]
VOID = {"meta", "img", "br", "hr", "link", "input"}
HISTORY = {
    "epoch": 1.0,
    "loss": 0.5,
    "accuracy": 0.8,
    "held_loss": 0.3,
    "held_accuracy": 0.9,
    "lr": 0.01,
    "seconds": 2.0,
    "images_per_s": 100.0,
}


class Page(HTMLParser):
    """Text, tags and references of a page; an unbalanced or misnested tag is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).replace("\u202f", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def manifest(
    labels: tuple[str, ...], *, quality: tuple[Measure, ...] = (), picture: DigitPicture | PhotoPicture | None = None
) -> Manifest:
    picture = picture or PhotoPicture(kind="photo", height=6, width=8, channels=3)
    shape = ("rows", *picture.shape)
    return Manifest(
        schema_version=1,
        name="things",
        version="3",
        task="classify",
        modality="image",
        title="Things & others",
        summary="Tells things apart.",
        graphs={
            "classifier": Graph(
                file="classifier.onnx",
                sha256="0" * 64,
                inputs=(TensorSpec(name="image", dtype="uint8", shape=shape),),
                outputs=(TensorSpec(name="probabilities", dtype="float32", shape=("rows", len(labels))),),
            )
        },
        labels=labels,
        picture=picture,
        max_rows=64,
        calibration=Calibration(method="temperature", temperature=1.25, rows=50),
        quality=quality,
        data=DataSource(
            name="Things",
            source="https://example.org/things",
            licence="CC0",
            rows_train=9,
            rows_held_out=5,
            rows_test=4,
        ),
        made=Made(
            command="python -m training cnn --data things",
            at="2025-01-01T00:00:00Z",
            train_s=75.0,
            machine="a machine",
            precision="float32",
            parameters=1234,
            parity_max_abs=1e-6,
            parity_rows=256,
            packages={"torch": "2.13.0"},
        ),
    )


def certain(guess: NDArray[np.int64], k: int, share: float = 0.9) -> NDArray[np.float32]:
    """Probabilities that give `share` to the guess and spread the rest evenly."""
    p = np.full((len(guess), k), (1 - share) / (k - 1), np.float32)
    p[np.arange(len(guess)), guess] = share
    return p


def report(
    y: NDArray[np.int64],
    guess: NDArray[np.int64],
    *,
    k: int,
    labels: tuple[str, ...] = (),
    quality: tuple[Measure, ...] = (),
    history: list[dict[str, float]] | None = None,
    split: str = "test",
    latency: bool = True,
    picture: DigitPicture | PhotoPicture | None = None,
    uncalibrated: bool = True,
) -> Page:
    m = manifest(labels or tuple(f"class {i}" for i in range(k)), quality=quality, picture=picture)
    assert m.picture is not None
    x = np.random.default_rng(0).integers(0, 256, (len(y), *m.picture.shape), dtype=np.uint8)
    timed = [Latency(rows=n, median_ms=0.5 * n, p95_ms=0.7 * n, repeats=20, device="a processor") for n in (1, 2, 4)]
    return Page(
        ClassifierReport(
            manifest=m,
            history=[HISTORY, HISTORY | {"epoch": 2.0, "lr": 0.0}] if history is None else history,
            test_x=x,
            test_y=y,
            probabilities=certain(guess, k),
            uncalibrated=certain(guess, k, 0.99) if uncalibrated else None,
            latency=timed if latency else [],
            test_split=split,
        )
        .page()
        .html()
    )


def rows(n: int, k: int, wrong: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels in turn, and guesses of which the first `wrong` are the next label."""
    y = np.arange(n) % k
    return y, np.where(np.arange(n) < wrong, (y + 1) % k, y)


def headings(page: Page) -> set[str | None]:
    return {attrs.get("id") for attrs in page.all("section")}


EVERYTHING = {"figures", "training", "confusion", "calibration", "mistakes", "sample", "classes", "latency", "made"}


def test_the_page_opens_with_the_claim_and_shows_every_section() -> None:
    page = report(*rows(40, 4, wrong=3), k=4)
    assert "Right on 37 of 40 test rows of Things." in page.text
    assert "expect 80.1 % to 97.4 % (95 % interval)" in page.text  # Wilson by hand for 37 of 40
    assert headings(page) == EVERYTHING
    assert page.text.index("Right on 37") < page.text.index("python -m training cnn --data things")
    assert "python -m training evaluate things" in page.text
    assert "3 of 40 rows are wrong." in page.text
    assert "The temperature is 1.250. It was fitted on 50 held-out rows" in page.text
    for word in ("CC0", "1,234", "1 min 15 s", "a machine", "torch 2.13.0", "a processor", "shorter side is resized"):
        assert word in page.text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = report(*rows(40, 4, wrong=3), k=4)
    css = Path(__file__).parents[3].joinpath("training/reporting/page.css").read_text(encoding="utf-8")
    assert "url(" not in css
    assert "@import" not in css
    assert {"script", "link", "iframe", "object", "base", "form"}.isdisjoint(tag for tag, _ in page.tags)
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert "url(" not in (value or "")
            if name in {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}:
                assert (value or "").startswith(("data:image/", "#")), (tag, name, value)


def test_labels_are_foreign_text_and_stay_text() -> None:
    evil = ("<script>alert(1)</script>", "\"><img src=x onerror='alert(2)'>", "a & b")
    page = report(*rows(30, 3, wrong=9), k=3, labels=evil)
    assert not page.all("script")
    assert all((attrs["src"] or "").startswith("data:image/") for attrs in page.all("img"))
    for label in evil:
        assert label in page.text


def test_a_missed_goal_is_marked_missed_and_a_reached_one_reached() -> None:
    def measured(name: str, value: float, goal: float, unit: str = "") -> Measure:
        return Measure(
            name=name, value=value, unit=unit, protocol="Once.", rows=40, seeds=(1, 2), goal=goal, spread=0.001
        )

    page = report(
        *rows(40, 4, wrong=3),
        k=4,
        quality=(measured("accuracy", 0.95, 0.97), measured("nll", 0.02, 0.03), measured("test_ece", 1.5, 1.0, "%")),
    )
    text = page.text
    assert "95.00 % ± 0.10 % mean of seeds 1, 2 goal: at least 97.00 % ✗ missed by 2.00 points" in text
    assert "this model alone: 92.50 %" in text
    assert "0.0200 nats ± 0.0010 nats mean of seeds 1, 2 goal: at most 0.0300 nats ✓ reached" in text
    assert "goal: at most 1.00 % ✗ missed by 0.50 points" in text


def test_figures_have_the_decimals_that_tell_something_and_a_miss_below_them_is_no_zero() -> None:
    def measured(name: str, value: float, goal: float, unit: str = "") -> Measure:
        return Measure(name=name, value=value, unit=unit, protocol="Once.", rows=40, seeds=(1,), goal=goal)

    assert figure(16.4534, "fd_ratio_4") == "16.45"
    assert verdict(measured("fd_ratio_4", 16.4534, 2.5)).endswith("missed by 13.95</span>")
    assert goal_of(measured("nll", 84.5, 86, "nats")) == "at most 86.00\u202fnats"
    assert verdict(measured("accuracy", 0.99999, 1.0)).endswith("missed by less than 0.01\u202fpoints</span>")
    assert verdict(measured("fd_ratio", 2.004, 2.0)).endswith("missed by less than 0.01</span>")


def test_what_protocols_share_is_written_once() -> None:
    long = "drawn from the very same seeds by the very same sampler"
    quality = tuple(
        Measure(name=name, value=0.5, protocol=f"{name} of pictures; {said}in fp32", rows=40, seeds=(0,))
        for name, said in (("precision", f"{long}; "), ("recall", f"{long}; "), ("f1", ""))
    )
    text = Page(figures(manifest(("a", "b"), quality=quality)).body).text
    assert "Precision precision of pictures; (a) 50.00 %" in text
    assert "F1 f1 of pictures 0.5000" in text
    assert text.count(long) == 1
    assert text.endswith(f"(a) {long}. All: in fp32; 40 rows; one seed: 0.")


def test_the_matrix_counts_what_was_taken_for_what() -> None:
    y = np.array([0, 0, 0, 1, 1, 2])
    page = report(y, np.array([0, 0, 1, 1, 1, 0]), k=3, labels=("ant", "bee", "cat"))
    assert "ant 2 1 · 3 bee · 2 · 2 cat 1 · 0 1" in page.text


@pytest.mark.parametrize("k", [2, 10, 25, 26, 120])
def test_any_number_of_classes_makes_a_readable_page(k: int) -> None:
    page = report(*rows(3 * k, k, wrong=k), k=k)
    assert headings(page) == EVERYTHING
    matrix = [attrs for attrs in page.all("table") if attrs.get("class") == "confusion"]
    assert len(matrix) == (1 if k <= 25 else 0)
    assert "Most frequent" in page.text
    assert ("The other" in page.text) == (k > 25)


def test_a_legend_that_does_not_fit_beside_the_title_stands_below_it() -> None:
    def drawn(title: str) -> ET.Element:
        lines = [Line(label=name, points=[(1, 1), (2, 2)]) for name in ("training", "held-out")]
        return ET.fromstring(line_chart(lines, x_label="epoch", y_label=title))

    short, long = drawn("Loss"), drawn("Mean absolute error of all that was seen")
    assert [row.attrib["y"] for row in short.findall("text[@class='legend']")] == ["13"]
    assert [row.attrib["y"] for row in long.findall("text[@class='legend']")] == ["30"]
    assert int(long.attrib["viewBox"].split()[3]) == int(short.attrib["viewBox"].split()[3]) + 17


def test_a_classifier_without_mistakes_says_so() -> None:
    page = report(*rows(20, 2, wrong=0), k=2)
    assert "None: every row was classified correctly." in page.text
    assert "Most frequent" not in page.text
    assert not [attrs for attrs in page.all("figure") if attrs.get("class") == "wrong"]


def test_a_classifier_that_is_always_wrong_says_so() -> None:
    page = report(*rows(20, 2, wrong=20), k=2)
    assert "Right on 0 of 20 test rows" in page.text
    assert len([attrs for attrs in page.all("figure") if attrs.get("class") == "wrong"]) == 20


def test_only_a_few_of_many_mistakes_are_shown_and_counted() -> None:
    page = report(*rows(100, 4, wrong=60), k=4)
    assert "The 24 most confident of 60 mistakes" in page.text
    assert "60 rows chosen at random (seed 0)" in page.text


@pytest.mark.parametrize(
    "history",
    [
        [HISTORY],
        [{"epoch": 1.0, "loss": float("nan")}, {"epoch": 2.0, "loss": 0.1}],
        [HISTORY | {"held_accuracy": 1.0, "accuracy": 1.0, "loss": 0.0}] * 2,
    ],
)
def test_one_epoch_gaps_and_perfect_epochs_still_draw_curves(history: list[dict[str, float]]) -> None:
    page = report(*rows(20, 2, wrong=1), k=2, history=history)
    assert "training" in headings(page)
    numbers = [
        attrs[n] or "" for attrs in page.all("circle") + page.all("line") for n in attrs if n in {"cx", "cy", "y1"}
    ]
    assert numbers
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", number) for number in numbers)


def test_without_history_and_latency_their_sections_are_left_out() -> None:
    page = report(*rows(20, 2, wrong=1), k=2, history=[], latency=False, uncalibrated=False)
    assert headings(page) == EVERYTHING - {"training", "latency"}


def test_a_model_without_a_test_split_does_not_pretend_to_have_one() -> None:
    page = report(*rows(20, 2, wrong=1), k=2, split="held-out")
    assert "Right on 19 of 20 held-out rows" in page.text
    assert "There is no separate test set" in page.text
    assert "on 20 held-out rows" in page.text


def test_a_model_without_any_rows_claims_nothing() -> None:
    page = report(*rows(0, 2, wrong=0), k=2)
    assert "nothing here is measured on unseen data" in page.text
    assert headings(page) == {"training", "latency", "made"}


def test_grey_digits_are_png_and_large_photos_small_jpegs(tmp_path: Path) -> None:
    page = report(*rows(4, 2, wrong=0), k=2, picture=DigitPicture(kind="digit", height=28, width=28, box=20))
    assert all((attrs["src"] or "").startswith("data:image/png") for attrs in page.all("img"))
    assert "fit 20 × 20 pixels" in page.text
    page = report(*rows(4, 2, wrong=0), k=2, picture=PhotoPicture(kind="photo", height=300, width=500, channels=3))
    assert all((attrs["src"] or "").startswith("data:image/jpeg") for attrs in page.all("img"))
    assert max(len(attrs["src"] or "") for attrs in page.all("img")) < 40_000


def test_write_puts_the_page_where_the_manifest_says(tmp_path: Path) -> None:
    y, guess = rows(4, 2, wrong=1)
    page = ClassifierReport(
        manifest=manifest(("no", "yes")),
        history=[],
        test_x=np.zeros((4, 6, 8, 3), np.uint8),
        test_y=y,
        probabilities=certain(guess, 2),
        uncalibrated=None,
        latency=[],
        test_split="test",
    ).page()
    path = write(page, tmp_path)
    assert path == tmp_path / "report" / "index.html"
    assert path.read_text(encoding="utf-8") == page.html()


def test_probabilities_of_another_shape_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"probabilities: expected \(4, 2\), rows and labels, got \(4, 3\)"):
        ClassifierReport(
            manifest=manifest(("no", "yes")),
            history=[],
            test_x=np.zeros((4, 6, 8, 3), np.uint8),
            test_y=np.zeros(4, np.int64),
            probabilities=np.zeros((4, 3), np.float32),
            uncalibrated=None,
            latency=[],
            test_split="test",
        )


def with_opacity(css: str) -> set[str]:
    """Classes for which a style sheet sets it, each by its last name."""
    rules = re.findall(r"([^{}]+)\{[^{}]*[\s;{]opacity:", css)
    return {selector.strip().split()[-1].lstrip(".") for rule in rules for selector in rule.split(",")}


def overruled(html: str, css: str) -> list[str]:
    """Elements with an opacity of their own that nobody sees: a style sheet counts more than an attribute."""
    found = re.findall(r'<\w+ class="([\w ]+)"[^<>]*\sopacity="', html)
    return [name for name in found if with_opacity(css) & set(name.split())]


def test_what_a_drawing_says_by_its_opacity_is_seen() -> None:
    css = (ROOT / "training" / "reporting" / "page.css").read_text(encoding="utf-8")
    assert with_opacity(css) >= {"bar", "band"}
    assert overruled('<rect class="bar" x="1" opacity="0.9"/><rect class="cell" opacity="0.9"/>', css) == ["bar"]
    hypothesis = Hypothesis(tokens=(5,), attention=(np.array([0.9, 0.1]),))
    drawn = [attention_map(["a", "b"], ["um"], hypothesis)]
    drawn += [path.read_text(encoding="utf-8") for path in (ROOT / "models").glob("*/*/report/index.html")]
    assert len(drawn) > 20
    assert [overruled(html, css) for html in drawn if overruled(html, css)] == []
