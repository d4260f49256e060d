"""Requests of every task to the shipped models, made of their golden rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.recorded import (
    CSV,
    EVENTS,
    FORM,
    NPY,
    PNG,
    Recorded,
    address,
    form,
    npy,
    picture,
    pictures,
    refused,
    text,
    typed,
    wrong_pictures,
)
from tests.bench.shapes import JSON, dense

CLASSIFY, REGRESS, RECONSTRUCT = "/v1/classify", "/v1/regress", "/v1/reconstruct"
GENERATE, DENOISE, TRANSLATE = "/v1/generate", "/v1/denoise", "/v1/translate"
MODELS: Final = ("cnn-mnist", "mlp-mnist", "perceptron-mnist")
TABLES: Final = ("mlp-iris", "mlp-wine", "mlp-breast-cancer")
PASS: Final[list[Any]] = [{"lectures": 4, "hours": "5 h"}, {"lectures": 12.5, "hours": {"value": 60, "unit": "h"}}]
GRADE: Final[list[Any]] = [
    {"lectures": 9, "hours": None, "programme": "physics"},
    {"lectures": 15, "hours": "41", "programme": "informatics"},
]


def golden(models: Path, model: str, tensor: str, file: str = "golden.npz") -> NDArray[Any]:
    """A tensor of a model's golden rows."""
    with np.load(models / model / "1" / file) as arrays:
        found: NDArray[Any] = arrays[tensor]
        return found


def of_tasks(models: Path) -> Iterator[Recorded]:
    """All of them, one task after the other."""
    digits = golden(models, "cnn-mnist", "image")
    yield from classify(models, digits)
    yield from regress(models)
    yield from reconstruct(digits)
    yield from generate(models, digits)
    yield from denoise(models, digits)
    yield from translate(models, digits)


def on_paper(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A digit (28, 28, 1) written large and dark on uneven paper, not in its middle: (140, 120, 3)."""
    ink = np.kron(digit[..., 0], np.ones((3, 3)))
    light = np.linspace(240, 200, 140)[:, None] + np.linspace(0, 10, 120)
    paper = light - np.pad(ink, ((40, 16), (10, 26))) * 0.7
    return np.repeat(paper.astype(np.uint8)[..., None], 3, axis=2)


def classify(models: Path, digits: NDArray[np.uint8]) -> Iterator[Recorded]:
    yield from pictures(CLASSIFY, digits[:2])
    yield from wrong_pictures(CLASSIFY, digits[:2])
    yield from refused(CLASSIFY, picture(digits[3]), typed(PNG), other="vae-2d")
    for model in MODELS:
        yield Recorded(f"{model}, all golden rows", address(CLASSIFY, model=model), npy(digits), typed(NPY))
    photos = golden(models, "cnn-cifar10", "image")
    yield Recorded("a photo", address(CLASSIFY, model="cnn-cifar10"), picture(photos[0], "JPEG"), typed("image/jpeg"))
    large = np.kron(photos[1], np.ones((3, 4, 1), np.uint8))
    yield Recorded("a photo to be cropped", address(CLASSIFY, model="cnn-cifar10"), picture(large), typed(PNG))
    yield Recorded("photos as npy", address(CLASSIFY, model="cnn-cifar10"), npy(photos), typed(NPY))
    yield Recorded("writing on paper", CLASSIFY, picture(on_paper(digits[2])), typed(PNG))
    yield Recorded("blank paper", CLASSIFY, picture(np.full((50, 50), 250, np.uint8)), typed(PNG), 422)
    yield Recorded("top_k", address(CLASSIFY, top_k=2, version=1), picture(digits[0]), typed(PNG))
    yield Recorded("top_k of 0", address(CLASSIFY, top_k=0), picture(digits[0]), typed(PNG), 422)
    yield Recorded("top_k that is no number", address(CLASSIFY, top_k="many"), picture(digits[0]), typed(PNG), 422)
    yield Recorded("top_k of a CSV", address(CLASSIFY, top_k=2), picture(digits[0]), typed(PNG, CSV), 422)
    yield Recorded(
        "top_k in query and form", address(CLASSIFY, top_k=2), form(picture(digits[0]), top_k="2"), typed(FORM), 422
    )
    for accept in (NPY, CSV, "text/*;q=0.5, application/json;q=0.4", "*/*"):
        yield Recorded(f"pictures, {accept}", CLASSIFY, npy(digits[:3]), typed(NPY, accept))
        yield Recorded(f"rows, {accept}", CLASSIFY, dense({"instances": PASS}), typed("application/json", accept))
    yield Recorded("too many rows", CLASSIFY, npy(np.zeros((513, 28, 28, 1), np.uint8)), typed(NPY), 413)
    yield Recorded("more rows than one run has", CLASSIFY, npy(np.tile(digits, (8, 1, 1, 1))), typed(NPY))
    yield from tables(
        CLASSIFY, PASS, "hours [h];lectures\r\n5;4\r\n60;12.5\r\n", np.array([[4, 5], [12.5, 60]], np.float32)
    )
    for model in TABLES:
        rows = golden(models, model, "row")
        yield Recorded(f"{model}, all golden rows", address(CLASSIFY, model=model), npy(rows), typed(NPY))


def tables(path: str, rows: list[Any], csv: str, numbers: NDArray[np.float32]) -> Iterator[Recorded]:
    """Rows of the default table, as JSON, as CSV and as numbers, and rows that are refused."""
    model = {CLASSIFY: "mlp-pass", REGRESS: "mlp-grade"}[path]
    table = typed("application/json")
    yield Recorded("rows by name", path, dense({"instances": rows}), table)
    yield Recorded("rows by place", path, dense({"instances": [list(rows[0].values())], "model": model}), table)
    yield Recorded("rows as CSV", path, csv.encode(), typed(CSV))
    yield Recorded("rows in another encoding", path, csv.encode("latin-1"), typed(f"{CSV}; charset=windows-1252"))
    yield Recorded("rows in UTF-16", path, csv.encode("utf-16"), typed(f"{CSV}; charset=utf-16"), 415)
    yield Recorded("rows with commas", path, csv.replace(";", ",").encode(), typed(CSV, CSV))
    yield Recorded("rows with tabs", path, csv.replace(";", "\t").encode(), typed(CSV, NPY))
    yield Recorded("rows as npy", address(path, model=model), npy(numbers), typed(NPY))
    first: dict[str, Any] = rows[0]
    for name, row in (
        ("a feature that is missing", {"hours": 1}),
        ("a feature that there is not", {**first, "huors": 1}),
        ("a value in another unit", {**first, "hours": "300 min"}),
        ("a value that is no number", {**first, "lectures": "some"}),
        ("a value beyond float32", {**first, "lectures": 1e39}),
        ("a row that is a number", 7),
        ("a row too short", [1]),
    ):
        yield Recorded(name, path, dense({"instances": [rows[-1], row]}), table, 422)
    yield Recorded("no rows", path, dense({"instances": []}), table, 422)
    yield Recorded("rows and a picture", path, dense({"instances": rows, "image": "aaaa"}), table, 422)
    yield Recorded("a row with a name twice", path, b'{"instances": [{"lectures": 1, "lectures": 2}]}', table, 422)
    yield Recorded("too many rows of a table", path, dense({"instances": [1] * 513}), table, 413)
    yield Recorded("CSV with a column that there is not", path, b"hours;lessons\n1;2\n", typed(CSV), 422)
    yield Recorded("CSV with a header alone", path, b"hours;lectures\n", typed(CSV), 422)
    yield Recorded("CSV with a line too long", path, csv.encode() + b"1;2;3;4;5\r\n", typed(CSV), 422)
    yield Recorded("CSV of another encoding", path, b"h\xf6urs\n1\n", typed(CSV), 422)
    yield Recorded("CSV with a decimal comma", path, csv.replace("5", "5,5").encode(), typed(CSV), 422)
    yield Recorded(
        "rows for a model of pictures", address(path, model="cnn-mnist"), dense({"instances": rows}), table, 422
    )
    wide = np.zeros((2, 9), np.float32)
    yield Recorded("numbers of another width", address(path, model=model), npy(wide), typed(NPY), 422)


def regress(models: Path) -> Iterator[Recorded]:
    csv = "programme;hours [h];lectures\r\nphysics;;9\r\ninformatics;41;15\r\n"
    numbers = np.array([[9, np.nan, 2], [15, 41, 0]], np.float32)
    yield from tables(REGRESS, GRADE, csv, numbers)
    body = dense({"instances": GRADE})
    yield from refused(REGRESS, body, JSON, other="cnn-mnist")
    for coverage, status in ((0.5, 200), (0.8, 200), (0.99, 200), (1.5, 422), ("nan", 422)):
        yield Recorded(f"coverage {coverage}", address(REGRESS, coverage=coverage), body, JSON, status)
    yield Recorded("coverage in JSON", REGRESS, dense({"instances": GRADE, "coverage": 0.7}), JSON)
    point = dense({"instances": [{"x1": -1, "x2": 2}], "model": "perceptron"})
    yield Recorded("the perceptron", REGRESS, point, JSON)
    yield Recorded("coverage without scores", address(REGRESS, coverage=0.8), point, JSON, 422)
    for model in ("mlp-diabetes", "mlp-grade", "perceptron"):
        rows = golden(models, model, "row")
        for accept in ("application/json", NPY, CSV):
            yield Recorded(f"{model} as {accept}", address(REGRESS, model=model), npy(rows), typed(NPY, accept))
    yield Recorded(
        "an unknown category", REGRESS, dense({"instances": [{**GRADE[1], "programme": "fysics"}]}), JSON, 422
    )
    yield Recorded("a picture for a table", address(REGRESS, model="mlp-grade"), b"\x89PNG", typed(PNG), 415)


def reconstruct(digits: NDArray[np.uint8]) -> Iterator[Recorded]:
    yield from pictures(RECONSTRUCT, digits[:2], model="vae-2d")
    yield from wrong_pictures(RECONSTRUCT, digits[:2])
    yield from refused(RECONSTRUCT, picture(digits[3]), typed(PNG), other="cnn-mnist")
    for model in ("autoencoder-2d", "autoencoder-5d", "vae-2d", "vae-mnist"):
        for accept in ("application/json", PNG, NPY):
            yield Recorded(
                f"{model} as {accept}", address(RECONSTRUCT, model=model), npy(digits[:4]), typed(NPY, accept)
            )
    for layout, columns, accept, status in (
        ("pairs", 2, PNG, 200), ("pictures", 3, PNG, 200), ("pairs", 0, PNG, 422), ("circles", 1, PNG, 422),
        ("pairs", 1, NPY, 422),
    ):  # fmt: skip
        ask = address(RECONSTRUCT, layout=layout, columns=columns)
        yield Recorded(f"{layout} in {columns} columns as {accept}", ask, npy(digits[:4]), typed(NPY, accept), status)
    for name, perturb, accept, status in (
        ("one number moved", {"dimension": 1, "by": [-2, 0, 2.5]}, "application/json", 200),
        ("one number moved, as PNG", {"dimension": 1, "by": [-2, 0, 2.5]}, PNG, 200),
        ("one number moved, as npy", {"dimension": 0, "by": [1]}, NPY, 200),
        ("a number that there is not", {"dimension": 99, "by": [1]}, "application/json", 422),
        ("moved by nothing", {"dimension": 0, "by": []}, "application/json", 422),
        ("moved by a text", {"dimension": 0, "by": ["far"]}, "application/json", 422),
        ("moved too often", {"dimension": 0, "by": [0.1] * 65}, "application/json", 422),
    ):
        body = dense({"images": [text(picture(row)) for row in digits[:2]], "perturb": perturb})
        yield Recorded(name, RECONSTRUCT, body, typed("application/json", accept), status)
    moved = dense({"images": [text(picture(digits[0]))] * 20, "perturb": {"dimension": 0, "by": [0.1] * 60}})
    yield Recorded("more pictures than are made", RECONSTRUCT, moved, JSON, 413)
    yield Recorded("perturb and a layout", RECONSTRUCT, dense({"image": text(picture(digits[0])), "layout": "pairs",
                   "perturb": {"dimension": 0, "by": [1]}}), typed("application/json", PNG), 422)  # fmt: skip


def generate(models: Path, digits: NDArray[np.uint8]) -> Iterator[Recorded]:
    yield from refused(GENERATE, dense({"n": 1, "seed": 1, "steps": 2}), JSON, other="cnn-mnist")
    quick = {"seed": 5, "steps": 3}
    for accept in ("application/json", PNG, NPY, EVENTS):
        yield Recorded(f"no body, as {accept}", address(GENERATE, n=3, label=7, **quick), b"", {"Accept": accept})
        labels = dense({"labels": ["1", 2, "3"], "guidance": 2, **quick})
        yield Recorded(f"labels as {accept}", GENERATE, labels, typed("application/json", accept))
        latents = dense({"model": "vae-2d", "latents": [[0.5, -1], [0, 0]]})
        yield Recorded(f"latents as {accept}", GENERATE, latents, typed("application/json", accept))
    for sampler in ("multistep", "heun", "ddim", "euler", "ancestral"):
        yield Recorded(f"sampler {sampler}", address(GENERATE, n=2, sampler=sampler, **quick), b"")
    for model in ("gan-mnist", "cgan-mnist", "vae-2d", "vae-mnist", "consistency-mnist", "diffusion-mnist"):
        yield Recorded(f"n of {model}", address(GENERATE, model=model, n=4, seed=11), b"")
    ends = [text(picture(row)) for row in digits[:2]]
    start = {"init_image": ends[0], "seed": 3, "steps": 4}
    mask = np.zeros((28, 28), np.uint8)
    mask[:, 14:] = 255
    painted = start | {"mask": text(picture(mask)), "label": 3}
    for name, asked, status in (
        ("guidance 0", {"n": 2, "guidance": 0, **quick}, 200),
        ("one label and many", {"label": 1, "labels": [1, 2], **quick}, 422),
        ("a label that there is not", {"label": "ten", **quick}, 422),
        ("a label beyond the last", {"label": 10, **quick}, 422),
        ("more labels than n", {"labels": [1, 2], "n": 3, **quick}, 422),
        ("too much guidance", {"n": 1, "guidance": 9, **quick}, 422),
        ("a sampler that there is not", {"n": 1, "sampler": "hoin"}, 422),
        ("too many steps", {"n": 1, "steps": 65}, 422),
        ("no pictures", {"n": 0}, 422),
        ("too many pictures", {"n": 513}, 422),
        ("a seed below 0", {"n": 1, "seed": -1}, 422),
        ("nothing asked for", {"seed": 1}, 422),
        ("two ways at once", {"n": 1, "latents": [[1, 2]]}, 422),
        ("columns of JSON", {"n": 2, "columns": 2, **quick}, 422),
        ("frames without between", {"n": 2, "frames": 2, **quick}, 422),
        ("a picture to begin with", start | {"strength": 0.5}, 200),
        ("a picture kept", start | {"strength": 0}, 200),
        ("strength beyond 1", start | {"strength": 1.5}, 422),
        ("strength of nothing", {"n": 1, "strength": 0.5}, 422),
        ("guidance without a label", start | {"guidance": 2}, 422),
        ("a mask", painted, 200),
        ("a mask and visits", painted | {"visits": 3}, 200),
        ("a mask and too many visits", painted | {"visits": 11}, 422),
        ("a black mask", painted | {"mask": text(picture(0 * mask))}, 422),
        ("a mask of another size", painted | {"mask": text(picture(mask[:9]))}, 422),
        ("visits without a mask", {"n": 1, "visits": 2}, 422),
        ("noise added", {"init_image": ends[0], "forward": 5, "seed": 3}, 200),
        ("noise added to nothing", {"forward": 5, "seed": 3}, 422),
        ("between latents", {"model": "vae-2d", "between": [[0, 1], [1, 0]], "frames": 4}, 200),
        ("between pictures", {"model": "vae-mnist", "between": ends, "frames": 3}, 200),
        ("between pictures of an autoencoder", {"model": "autoencoder-2d", "between": ends}, 200),
        ("between one of each", {"model": "vae-2d", "between": [[0, 1], ends[0]]}, 422),
        ("between three", {"model": "vae-2d", "between": [[0, 1], [1, 0], [1, 1]]}, 422),
        ("between pictures of a GAN", {"model": "gan-mnist", "between": ends}, 422),
        ("a grid", {"model": "vae-2d", "grid": {"side": 4}}, 200),
        ("a grid of two of many", {"model": "autoencoder-5d", "grid": {"side": 3, "dimensions": [4, 1]}}, 200),
        ("a grid of one dimension twice", {"model": "vae-2d", "grid": {"side": 3, "dimensions": [1, 1]}}, 422),
        ("a grid too large", {"model": "vae-2d", "grid": {"side": 64}}, 413),
        ("a grid without a side", {"model": "vae-2d", "grid": {}}, 422),
        ("a latent too long", {"model": "vae-2d", "latents": [[1, 2, 3]]}, 422),
        ("a latent of texts", {"model": "vae-2d", "latents": [["a", "b"]]}, 422),
        ("latents of a diffusion model", {"latents": [[1, 2]]}, 422),
        ("latents without a label", {"model": "cgan-mnist", "latents": [[0.0] * 64]}, 422),
        ("latents with a label", {"model": "cgan-mnist", "latents": [[0.1] * 64], "label": "4"}, 200),
        ("n of an autoencoder", {"model": "autoencoder-5d", "n": 2}, 422),
        ("steps of a GAN", {"model": "gan-mnist", "n": 2, "steps": 3}, 422),
        ("steps of the consistency model", {"model": "consistency-mnist", "n": 2, "seed": 2, "steps": 4}, 200),
    ):  # fmt: skip
        yield Recorded(name, GENERATE, dense(asked), JSON, status)
    for name, asked in (("a mask", painted), ("noise added", {"init_image": ends[0], "forward": 3, "seed": 3}),
                        ("guided", {"n": 2, "label": 1, "guidance": 3, **quick})):  # fmt: skip
        yield Recorded(f"{name}, streamed", GENERATE, dense(asked), typed("application/json", EVENTS))
        yield Recorded(f"{name}, as PNG", GENERATE, dense(asked), typed("application/json", PNG))
    yield Recorded("columns", address(GENERATE, n=5, columns=2, **quick), b"", {"Accept": PNG})
    late = {"Accept": EVENTS, "X-Request-Deadline-Ms": "0"}
    yield Recorded("a stream that would be late", address(GENERATE, n=1, **quick), b"", late, 504)
    wrong = {"Accept": EVENTS}
    yield Recorded("a stream of nobody", address(GENERATE, model="none", n=1), b"", wrong, 404)


def denoise(models: Path, digits: NDArray[np.uint8]) -> Iterator[Recorded]:
    rng = np.random.default_rng(7)
    noisy = np.clip(digits[:2] + rng.normal(0, 40, (2, 28, 28, 1)), 0, 255).astype(np.uint8)
    yield from pictures(DENOISE, noisy, model="diffusion-mnist")
    yield from wrong_pictures(DENOISE, noisy, model="diffusion-mnist")
    yield from refused(DENOISE, picture(noisy[0]), typed(PNG), other="cnn-mnist")
    x = golden(models, "photo-denoiser", "x")[0]  # (128, 128, 1)
    grey = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    colour = np.repeat(grey[:61, :93], 3, axis=2)
    colour[..., 1] //= 2
    for accept in ("application/json", PNG, NPY):
        yield Recorded(f"a grey photo as {accept}", DENOISE, picture(grey), typed(PNG, accept))
        yield Recorded(
            f"a photo in colour as {accept}", address(DENOISE, sigma_255=25), picture(colour), typed(PNG, accept)
        )
        yield Recorded(f"floats as {accept}", DENOISE, npy(x[None]), typed(NPY, accept))
        yield Recorded(f"digits as {accept}", address(DENOISE, model="diffusion-mnist"), npy(noisy), typed(NPY, accept))
    two = {"images": [text(picture(grey)), text(picture(colour))]}
    for name, asked, accept, status in (
        ("a sigma for each", two | {"sigma_255": [15, 25.5]}, "", 200),
        ("auto", two | {"sigma_255": "auto"}, "", 200),
        ("one sigma in a list", two | {"sigma_255": [15]}, "", 200),
        ("too many sigmas", two | {"sigma_255": [15, 25, 50]}, "", 422),
        ("a sigma below 0", two | {"sigma_255": -1}, "", 422),
        ("a sigma that is a text", two | {"sigma_255": "much"}, "", 422),
        ("photos of two sizes as npy", two, NPY, 422),
        ("photos of two sizes as PNG", two, PNG, 200),
        ("photos of two sizes as a stream", two, EVENTS, 422),
    ):
        yield Recorded(name, DENOISE, dense(asked), typed("application/json", accept), status)
    for layout, status in (("pairs", 200), ("circles", 422)):
        yield Recorded(f"layout {layout}", address(DENOISE, layout=layout), picture(grey), typed(PNG, PNG), status)
    drawn = {"model": "diffusion-mnist", "samples": 2, "steps": 4, "seed": 1, "sigma_255": 40}
    for accept in ("application/json", PNG, NPY, EVENTS):
        yield Recorded(f"samples as {accept}", address(DENOISE, **drawn), npy(noisy), typed(NPY, accept))
    for name, options, accept, status in (
        ("samples of a photo", {"samples": 2}, "", 422),
        ("no samples", {**drawn, "samples": 0}, "", 422),
        ("too many steps", {**drawn, "steps": 251}, "", 422),
        ("a seed without samples", {"model": "diffusion-mnist", "seed": 1}, "", 422),
        ("samples and a layout", {**drawn, "layout": "pairs"}, PNG, 422),
        ("a stream without samples", {"model": "diffusion-mnist"}, EVENTS, 422),
    ):
        yield Recorded(name, address(DENOISE, **options), picture(noisy[0]), typed(PNG, accept), status)
    yield Recorded("a digit of another size", address(DENOISE, model="diffusion-mnist"), picture(grey), typed(PNG), 422)
    yield Recorded(
        "values that are not numbers", DENOISE, npy(np.full((1, 9, 9, 1), np.nan, np.float32)), typed(NPY), 422
    )


def translate(models: Path, digits: NDArray[np.uint8]) -> Iterator[Recorded]:
    thin = golden(models, "cyclegan-strokes", "image")
    yield from pictures(TRANSLATE, thin[:2], to="thick")
    yield from wrong_pictures(TRANSLATE, thin[:2], to="thick")
    yield from refused(TRANSLATE, picture(thin[3]), typed(PNG), other="cnn-mnist", to="thick")
    for target, kind, accept in (("thick", "thin", PNG), ("thin", "thick", NPY), ("photo", "plain", PNG)):
        yield Recorded(f"to {target} as {accept}", address(TRANSLATE, to=target), npy(digits[:3]), typed(NPY, accept))
        yield Recorded(f"from {kind}", address(TRANSLATE, **{"from": kind}), npy(digits[:3]), typed(NPY))
    photos = golden(models, "cyclegan-photo", "image", "golden-photo_to_plain.npz")
    for accept in ("application/json", PNG, NPY):
        ask = address(TRANSLATE, to="plain", cycle="false")
        yield Recorded(f"photos to plain as {accept}", ask, npy(photos[:3]), typed(NPY, accept))
    for name, options, accept, status in (
        ("layout cycle", {"to": "photo", "layout": "cycle", "columns": 2}, PNG, 200),
        ("layout pairs", {"to": "photo", "layout": "pairs"}, PNG, 200),
        ("layout cycle without one", {"to": "photo", "layout": "cycle", "cycle": "false"}, PNG, 422),
        ("layout of JSON", {"to": "photo", "layout": "pairs"}, "", 422),
        ("cycle that is neither", {"to": "photo", "cycle": "perhaps"}, "", 422),
        ("to nowhere", {}, "", 422),
        ("to what there is not", {"to": "thikc"}, "", 422),
        ("from one to another model's", {"from": "thin", "to": "photo"}, "", 422),
        ("to what the model has not", {"model": "cyclegan-photo", "to": "thick"}, "", 422),
    ):
        yield Recorded(name, address(TRANSLATE, **options), npy(digits[:3]), typed(NPY, accept), status)
