"""The one table of tasks: what each is called, what it needs of a manifest, and its first requests.

A new task is a name in `Task` and a row of `TASKS` here, and a folder in `app/tasks`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from app.core.manifest.graph import ROWS, Graph, Spec, check_specs

if TYPE_CHECKING:
    from app.core.manifest.manifest import Manifest

Task = Literal[
    "classify", "regress", "reconstruct", "generate", "denoise", "translate", "transcribe", "label-frames", "caption"
]


def _only_this(manifest: Manifest) -> tuple[Task, ...]:
    return ()


def _always(manifest: Manifest) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """One row of the table.

    Attributes:
        title: what its models do, as a verb before the kind of input: "Classify" table rows.
        check: raises ValueError where a manifest lacks what the task needs: graphs, their tensors, descriptions.
        commands: example commands that a model answers, from its manifest and the URL of the endpoint with its name.
        further_tasks: what a model of this task does besides.
        answers_plainly: whether a model answers a request without options. One that does not is the default model
            only where there is no other.
    """

    title: str
    check: Callable[[Manifest], None]
    commands: Callable[[Manifest, str], list[str]]
    further_tasks: Callable[[Manifest], tuple[Task, ...]] = _only_this
    answers_plainly: Callable[[Manifest], bool] = _always


# What a task needs of a manifest.


def _check_classifier(manifest: Manifest) -> None:
    if len(manifest.labels) < 2:
        raise ValueError(f"labels: a classify model has two or more, here are {len(manifest.labels)}")
    graph = _graph(manifest, "classifier")
    check_specs("classifier.outputs", graph.outputs, [("probabilities", "float32", (ROWS, len(manifest.labels)))])
    _check_input(manifest, "classifier", graph)


def _check_regressor(manifest: Manifest) -> None:
    graph = _graph(manifest, "regressor")
    if manifest.target is None:
        raise ValueError("target: a regress model names what it predicts")
    outputs = [("value", "float32", (ROWS,)), ("scale", "float32", (ROWS,))]
    check_specs("regressor.outputs", graph.outputs, outputs[: 1 if manifest.conformal is None else 2])
    _check_input(manifest, "regressor", graph)


def _check_autoencoder(manifest: Manifest) -> None:
    encoder, decoder = _graph(manifest, "encoder"), _graph(manifest, "decoder")
    if manifest.latent is None or manifest.picture is None:
        raise ValueError("latent, picture: a reconstruct model declares both")
    code = ("float32", (ROWS, manifest.latent.size))
    names = ("latent",) if manifest.latent.prior is None else ("mu", "logvar")
    check_specs("encoder.outputs", encoder.outputs, [(name, *code) for name in names])
    check_specs("decoder.inputs", decoder.inputs, [("latent", *code)])
    check_specs("decoder.outputs", decoder.outputs, [("image", "float32", (ROWS, *manifest.picture.shape))])
    _check_input(manifest, "encoder", encoder)


def _check_generator(manifest: Manifest) -> None:
    if manifest.picture is None:
        raise ValueError("picture: a generate model declares what it draws")
    if (manifest.latent is None) == (manifest.sampling is None):
        raise ValueError("latent, sampling: a generate model declares one of them")
    shape = (ROWS, *manifest.picture.shape)
    label: list[Spec] = [("label", "int64", (ROWS,))] if manifest.labels else []
    if manifest.latent is not None:
        if manifest.latent.prior is None:
            raise ValueError("latent.prior: a generate model draws its latents from one")
        graph = _graph(manifest, "generator")
        inputs: list[Spec] = [("latent", "float32", (ROWS, manifest.latent.size))]
        check_specs("generator.inputs", graph.inputs, inputs + label)
        check_specs("generator.outputs", graph.outputs, [("image", "float32", shape)])
        return
    assert manifest.sampling is not None
    if manifest.sampling.guidance is not None and not manifest.labels:
        raise ValueError("sampling.guidance: guides towards a label, the model has no labels")
    _check_denoiser(manifest, shape, label)


def _check_plane_denoiser(manifest: Manifest) -> None:
    if manifest.plane is None:
        raise ValueError("plane: a denoise model declares its tiles")
    _graph(manifest, "estimator")
    _check_denoiser(manifest, (ROWS, manifest.plane.tile, manifest.plane.tile, 1), [])


def _check_denoiser(manifest: Manifest, shape: tuple[str | int, ...], label: list[Spec]) -> None:
    """D(x, sigma), with a label where there are labels; and the estimator of sigma from x, if there is one."""
    graph = _graph(manifest, "denoiser")
    x: Spec = ("x", "float32", shape)
    sigma: Spec = ("sigma", "float32", (ROWS,))
    check_specs("denoiser.inputs", graph.inputs, [x, sigma, *label])
    check_specs("denoiser.outputs", graph.outputs, [("denoised", "float32", shape)])
    if estimator := manifest.graphs.get("estimator"):
        check_specs("estimator.inputs", estimator.inputs, [x])
        check_specs("estimator.outputs", estimator.outputs, [sigma])


def _check_translator(manifest: Manifest) -> None:
    """Of text, or of pictures: then one graph a direction."""
    if manifest.text is not None:
        if manifest.writing is None or manifest.languages is None:
            raise ValueError("writing, languages: a translate model of text declares both")
        _check_writer(manifest, "tokens")
        return
    pictures = {domain.name: domain.picture for domain in manifest.domains}
    directions = [(one.source, one.target) for one in manifest.translations]
    if len(pictures) != 2:
        raise ValueError(f"domains: a translate model has two of different names, here are {sorted(pictures)}")
    if sorted(directions) != sorted([tuple(pictures), tuple(reversed(pictures))]):
        raise ValueError(f"translations: expected one each way between {' and '.join(pictures)}, got {directions}")
    for direction in manifest.translations:
        graph = _graph(manifest, direction.graph)
        inputs: list[Spec] = [("image", "uint8", (ROWS, *pictures[direction.source].shape))]
        check_specs(f"{direction.graph}.inputs", graph.inputs, inputs)
        outputs: list[Spec] = [("translated", "float32", (ROWS, *pictures[direction.target].shape))]
        check_specs(f"{direction.graph}.outputs", graph.outputs, outputs)


def _check_transcriber(manifest: Manifest) -> None:
    """Either the whole recording in one run, or pieces of a fixed length with the states that the last one left."""
    if manifest.sound is None or manifest.transcription is None or not manifest.labels:
        raise ValueError("sound, transcription, labels: a transcribe model declares them all")
    tokens = len(manifest.labels) + 1
    if graph := manifest.graphs.get("recognizer"):
        _check_input(manifest, "recognizer", graph)
        outputs: list[Spec] = [("log_probabilities", "float32", (ROWS, "frames", tokens)), ("steps", "int64", (ROWS,))]
        check_specs("recognizer.outputs", graph.outputs, outputs)
        return
    graph = _graph(manifest, "streamer")
    _check_streamer(graph, ("sound", "float32", 1), "log_probabilities", tokens)


def _check_frame_labeller(manifest: Manifest) -> None:
    """As `_check_transcriber`, for the frames of a clip."""
    if manifest.video is None or manifest.frame_labels is None or len(manifest.labels) < 2:
        raise ValueError("video, frame_labels, labels: a label-frames model declares them all")
    wrong = {word for words in manifest.frame_labels.grammar for word in words} - set(manifest.labels)
    if manifest.frame_labels.background not in (None, *manifest.labels) or wrong:
        raise ValueError("frame_labels: background and the words of the grammar are labels")
    if graph := manifest.graphs.get("labeller"):
        _check_input(manifest, "labeller", graph)
        outputs: list[Spec] = [("probabilities", "float32", (ROWS, "frames", len(manifest.labels)))]
        check_specs("labeller.outputs", graph.outputs, outputs)
        return
    graph = _graph(manifest, "streamer")
    _check_streamer(graph, ("video", "uint8", 1), "probabilities", len(manifest.labels))


def _check_streamer(graph: Graph, piece: tuple[str, str, int], output: str, width: int) -> None:
    """A piece and the states that the last one left, all of fixed sizes; its outputs, and the states that it leaves."""
    name, dtype, axis = piece
    first, *states = graph.inputs
    if (first.name, first.dtype) != (name, dtype) or len(first.shape) <= axis or not states:
        raise ValueError(f"graphs.streamer.inputs: expected {dtype} '{name}' and one state or more")
    steps = graph.outputs[0].shape[1:2]
    outputs: list[Spec] = [(output, "float32", (ROWS, *steps, width))]
    outputs += [(f"next_{state.name}", state.dtype, state.shape) for state in states]
    check_specs("streamer.outputs", graph.outputs, outputs)
    if not all(isinstance(size, int) for spec in (*graph.inputs, *graph.outputs) for size in spec.shape[1:]):
        raise ValueError("graphs.streamer: all axes but the rows have fixed sizes")


def _check_captioner(manifest: Manifest) -> None:
    if manifest.picture is None or manifest.writing is None or manifest.writing.grid is None:
        raise ValueError("picture, writing.grid: a caption model declares both")
    _check_writer(manifest, manifest.writing.grid[0] * manifest.writing.grid[1])


def _check_writer(manifest: Manifest, cells: str | int) -> None:
    """An encoder, run once, that answers with a memory of `cells` places and the decoder's first states; and one step
    of the decoder, which takes a token and those states, and answers with the best tokens and the next states."""
    encoder, step, writing = _graph(manifest, "encoder"), _graph(manifest, "step"), manifest.writing
    assert writing is not None
    _check_input(manifest, "encoder", encoder)
    memory, *states = encoder.outputs
    shape = memory.shape
    if (memory.name, memory.dtype, shape[:2], len(shape)) != ("memory", "float32", (ROWS, cells), 3) or not states:
        raise ValueError(
            f"graphs.encoder.outputs: expected 'memory' float32 ({ROWS}, {cells}, size) and one state or more"
        )
    if not all(isinstance(size, int) for size in (*shape[2:], *(s for state in states for s in state.shape[1:]))):
        raise ValueError("graphs.encoder.outputs: the sizes of memory and states are fixed")
    remembered: list[Spec] = [("memory", "float32", shape)]
    remembered += [("length", "int64", (ROWS,))] if manifest.text is not None else []
    passed: list[Spec] = [(state.name, state.dtype, state.shape) for state in states]
    check_specs("step.inputs", step.inputs, [("token", "int64", (ROWS,)), *remembered, *passed])
    best = (ROWS, writing.best)
    outputs: list[Spec] = [("best", "int64", best), ("log_probabilities", "float32", best)]
    outputs += [("attention", "float32", (ROWS, cells))]
    outputs += [(f"next_{name}", dtype, size) for name, dtype, size in passed]
    check_specs("step.outputs", step.outputs, outputs)


def _graph(manifest: Manifest, key: str) -> Graph:
    graph = manifest.graphs.get(key)
    if graph is None:
        there = sorted(manifest.graphs)
        raise ValueError(f"graphs: a {manifest.task} model has a graph '{key}', here are {there}")
    return graph


def _check_input(manifest: Manifest, key: str, graph: Graph) -> None:
    """A picture makes one uint8 input, a table one float32 input, sound, video and text one of any length, and the
    length of each row; of other models nothing is known."""
    length: Spec = ("length", "int64", (ROWS,))
    if manifest.picture is not None:
        want: list[Spec] = [(graph.inputs[0].name, "uint8", (ROWS, *manifest.picture.shape))]
    elif manifest.table is not None:
        want = [(graph.inputs[0].name, "float32", (ROWS, len(manifest.table.columns)))]
    elif manifest.sound is not None:
        want = [("sound", "float32", (ROWS, "samples")), length]
    elif manifest.text is not None:
        want = [("tokens", "int64", (ROWS, "tokens")), length]
    elif manifest.video is not None:
        want = [("video", "uint8", (ROWS, "frames", *manifest.video.picture.shape)), length]
    else:
        return
    got = [(spec.name, spec.dtype, spec.shape) for spec in graph.inputs]
    if got != want:
        what = "picture" if manifest.picture else "table" if manifest.table else manifest.modality
        makes = " and ".join(f"one {dtype} {shape}" for _, dtype, shape in want)
        raise ValueError(f"graphs.{key}.inputs: the {what} makes {makes}, the graph takes {got}")


# Example commands.


def _row_or_picture(manifest: Manifest, url: str) -> list[str]:
    if manifest.table is not None:
        row = json.dumps({"instances": [manifest.table.middle_row()]}, ensure_ascii=False).replace("'", "'\\''")
        return [f"curl -H 'Content-Type: application/json' -d '{row}' '{url}'"]
    return [] if manifest.picture is None else [f"curl -F image=@picture.png '{url}'"]


def _whatever_it_reads(manifest: Manifest, url: str) -> list[str]:
    if manifest.sound is not None:
        return [f"curl -F sound=@recording.wav '{url}'"]
    return _row_or_picture(manifest, url) if manifest.text is None else [_said(manifest, url)]


def _said(manifest: Manifest, url: str, options: str = "") -> str:
    """The manifest's own example as JSON."""
    assert manifest.text is not None
    body = json.dumps({"text": manifest.text.example}, ensure_ascii=False).replace("'", "'\\''")
    return f"curl {options}-H 'Content-Type: application/json' -d '{body}' '{url}'"


def _recording(manifest: Manifest, url: str) -> list[str]:
    """Its words with their times, as subtitles, and while they are heard."""
    words, subtitles = f"curl -F sound=@recording.wav '{url}'", "curl -H 'Accept: text/vtt' -F sound=@recording.wav"
    found = [words, f"{subtitles} '{url}' -o recording.vtt"]
    if "streamer" not in manifest.graphs:
        return found
    return [*found, f"curl -N -H 'Accept: text/event-stream' -F sound=@recording.wav '{url}'"]


def _clip(manifest: Manifest, url: str) -> list[str]:
    """Its labels with their times, as subtitles, and frame by frame."""
    found = [
        f"curl -F video=@clip.avif '{url}'",
        f"curl -H 'Accept: text/vtt' -F video=@clip.avif '{url}' -o clip.vtt",
    ]
    if "streamer" not in manifest.graphs:
        return found
    return [*found, f"curl -N -H 'Accept: text/event-stream' -F video=@clip.avif '{url}'"]


def _new_pictures(manifest: Manifest, url: str) -> list[str]:
    """Sixteen pictures as one; of a model that samples in steps also one of them step by step."""
    if not _has_prior(manifest):
        assert manifest.latent is not None
        body = json.dumps({"latents": [manifest.latent.middle()]})
        return [f"curl -H 'Content-Type: application/json' -H 'Accept: image/png' -d '{body}' '{url}' -o drawn.png"]
    label = f"&label={quote(manifest.drawn_labels[-1], safe='')}" if manifest.drawn_labels else ""
    sixteen = f"curl -X POST -H 'Accept: image/png' '{url}&n=16{label}&seed=1' -o drawn.png"
    in_steps = f"curl -N -X POST -H 'Accept: text/event-stream' '{url}&n=1{label}&seed=1'"
    return [sixteen] if manifest.sampling is None else [sixteen, in_steps]


def _noisy_picture(manifest: Manifest, url: str) -> list[str]:
    return [f"curl -H 'Accept: image/png' -F image=@noisy.png '{url}' -o denoised.png"]


def _each_direction(manifest: Manifest, url: str) -> list[str]:
    if manifest.text is not None:
        return [_said(manifest, url), _said(manifest, url, "-N -H 'Accept: text/event-stream' ")]
    return [
        f"curl -H 'Accept: image/png' -F image=@picture.png '{url}&to={one.target}&layout=cycle' -o {one.target}.png"
        for one in manifest.translations
    ]


def _described_picture(manifest: Manifest, url: str) -> list[str]:
    """Its words, and where the model looked for each."""
    return [
        f"curl -F image=@picture.png '{url}'",
        f"curl -H 'Accept: image/png' -F image=@picture.png '{url}' -o attention.png",
    ]


def _has_prior(manifest: Manifest) -> bool:
    """Whether it makes new pictures of nothing; without a prior it only decodes latents."""
    return manifest.latent is None or manifest.latent.prior is not None


TASKS: Final[Mapping[Task, TaskFacts]] = {
    "classify": TaskFacts(title="Classify", check=_check_classifier, commands=_whatever_it_reads),
    "regress": TaskFacts(title="Predict numbers from", check=_check_regressor, commands=_row_or_picture),
    "reconstruct": TaskFacts(
        title="Encode and reconstruct",
        check=_check_autoencoder,
        commands=_row_or_picture,
        further_tasks=lambda manifest: ("generate",),  # it decodes latents
    ),
    "generate": TaskFacts(
        title="Generate",
        check=_check_generator,
        commands=_new_pictures,
        # A denoiser takes noise from a picture as well, if it can tell how much there is.
        further_tasks=lambda manifest: ("denoise",) if "estimator" in manifest.graphs else (),
        answers_plainly=_has_prior,
    ),
    "denoise": TaskFacts(title="Denoise", check=_check_plane_denoiser, commands=_noisy_picture),
    "translate": TaskFacts(title="Translate", check=_check_translator, commands=_each_direction),
    "transcribe": TaskFacts(title="Transcribe", check=_check_transcriber, commands=_recording),
    "label-frames": TaskFacts(title="Label the frames of", check=_check_frame_labeller, commands=_clip),
    "caption": TaskFacts(title="Caption", check=_check_captioner, commands=_described_picture),
}
"""In the order in which tasks are listed."""
