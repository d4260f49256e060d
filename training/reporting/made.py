"""How a model was made: the commands, the data, the training, the files and how far ONNX Runtime is from torch."""

from __future__ import annotations

import shlex
from html import escape

from app.core.manifest import DigitPicture, Manifest, PhotoPicture
from training.reporting.formatting import count, seconds
from training.reporting.html import Section


def reproduce(m: Manifest) -> str:
    """The two commands that make the model and its figures again."""
    evaluate = shlex.join(["python", "-m", "training", "evaluate", m.name, "--version", m.version])
    return (
        f'<div class="commands"><h3>Make it again</h3><pre>{escape(m.made.command)}</pre>'
        f"<h3>Measure it again, from the ONNX file alone</h3><pre>{escape(evaluate)}</pre></div>"
    )


def made(m: Manifest, *, before: str = "") -> Section:
    """Data, training, parity and files, as the manifest says. `before` (HTML) opens the section."""
    d, how = m.data, m.made
    split = f"{count(d.rows_train)} to train, {count(d.rows_held_out)} held out, {count(d.rows_test)} to test"
    parity = f"at most {how.parity_max_abs:.1e} between ONNX Runtime and torch, on {count(how.parity_rows)} rows"
    entries = [
        ("Summary", m.summary),
        ("Data", d.name),
        ("Source", d.source),
        ("Licence", d.licence),
        ("Rows", split),
        ("Note", d.note),
        ("Classes", f"{len(m.labels)}" if m.labels else ""),
        ("Preparation of pictures", preparation(m.picture)),
        ("Parameters", count(how.parameters)),
        ("Precision in training", how.precision),
        ("Training time", seconds(how.train_s)),
        ("Trained on", how.machine),
        ("Made at", how.at),
        ("Parity", parity),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(how.packages.items()))),
    ]
    entries += [(f"Graph “{name}”", f"{graph.file}, sha256 {graph.sha256}") for name, graph in m.graphs.items()]
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in entries if v)
    return Section("made", "How it was made", f"{before}<dl>{listed}</dl>")


def preparation(p: DigitPicture | PhotoPicture | None) -> str:
    """What the server does with a picture before the model sees it."""
    if p is None:
        return ""
    size = f"{p.height} × {p.width}"
    if p.kind == "digit":
        return (
            "As handwriting: turned upright by its EXIF tag, made grey, and turned to light ink on black whichever it "
            f"was. The ink's bounding box is scaled, its aspect kept, to fit {p.box} × {p.box} pixels; its centre of "
            f"mass is put in the middle of {size}."
        )
    fit = (
        f"its shorter side is resized to fit and the middle {size} is cut out"
        if p.resize == "cover"
        else f"it is stretched to {size}"
    )
    colour = "grey" if p.channels == 1 else "RGB"
    return (
        f"As a photo: turned upright by its EXIF tag, laid on grey level {p.background} where it is transparent, "
        f"made {colour}; {fit}."
    )
