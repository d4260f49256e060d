"""Requests of every form with sound and clips, and what is right to answer: the words by ONNX Runtime alone, without
the server; a clip's labels by the first answer, which all others must equal."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import soundfile
from numpy.typing import NDArray

from app.codecs.audio import decode
from app.codecs.npy import encode_npy
from app.core.decoding.streaming import stream
from app.core.manifest import Manifest
from app.web.request.media_types import EVENT_STREAM, SRT, TEXT, VTT
from app.web.request.sounds import as_row
from app.web.speech.recognize import OUTPUT, STREAMER, WHOLE, chunk_of, first_states, late, search
from tests.bench.mixture import Send, Truth
from tests.bench.processes import ROOT
from tests.bench.shapes import JSON, dense

SENTENCE: Final = ROOT / "docs" / "examples" / "sentence.opus"
CLIP: Final = ROOT / "docs" / "examples" / "moving.png"
LINE: Final = "line"


def of_sound(folder: Path, manifest: Manifest) -> Iterator[Send]:
    """Every form of the example sentence, to a model in its published folder."""
    assert manifest.sound is not None
    samples, rate = soundfile.read(SENTENCE, dtype="float32")
    at_rate = decode(SENTENCE.read_bytes(), manifest.sound, subject="sound", max_s=60).samples
    npy = {"Content-Type": "application/x-npy"}
    bodies = [("Opus", "audio/ogg", SENTENCE.read_bytes())]
    for form, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")):
        file = io.BytesIO()
        soundfile.write(file, samples, rate, format=form, subtype=subtype)
        bodies.append((f"{form} {subtype}", f"audio/{form.lower()}", file.getvalue()))
    path = f"/v1/{manifest.task}"
    query = f"{path}?model={manifest.name}"
    text = base64.b64encode(bodies[1][2]).decode()
    if manifest.task != "transcribe":
        truth = Truth()
        for what, kind, body in bodies:
            yield Send(what, "POST", query, {"Content-Type": kind}, body, truth=truth, reads=labels)
        yield Send("sound npy", "POST", query, npy, encode_npy(at_rate[None]), truth=truth, reads=labels)
        return
    said = Truth(heard(folder, manifest, at_rate))
    wav = said
    for what, kind, body in bodies:
        own = Truth(heard(folder, manifest, decode(body, manifest.sound, subject="sound", max_s=60).samples))
        yield Send(what, "POST", query, {"Content-Type": kind}, body, truth=own, reads=words)
        wav = own if what == "WAV PCM_16" else wav
    yield Send("sound npy", "POST", query, npy, encode_npy(at_rate[None]), truth=said, reads=words)
    yield Send(
        "sound base64", "POST", path, JSON, dense({"model": manifest.name, "sound": text}), truth=wav, reads=words
    )
    opus = {"Content-Type": "audio/ogg"}
    for accept, reads in ((TEXT, plain), (SRT, cued), (VTT, cued), (EVENT_STREAM, last_event(words))):
        if accept != EVENT_STREAM or STREAMER in manifest.graphs:
            headers = {**opus, "Accept": accept}
            yield Send(accept, "POST", query, headers, bodies[0][2], truth=said, reads=reads)
    for response_format, reads in (("json", text_of), ("verbose_json", text_of), ("text", plain), ("srt", cued)):
        fields = {"model": manifest.name.encode(), "response_format": response_format.encode()}
        headers, body = form_of(fields, bodies[0][2])
        kind = f"OpenAI {response_format}"
        yield Send(kind, "POST", "/v1/audio/transcriptions", headers, body, truth=said, reads=reads)


def of_clips(manifest: Manifest) -> Iterator[Send]:
    """Every form of the example clip."""
    truth, query, kind = Truth(), f"/v1/label-frames?model={manifest.name}", {"Content-Type": "image/png"}
    data = CLIP.read_bytes()
    yield Send("clip", "POST", query, kind, data, truth=truth, reads=framed)
    text = dense({"model": manifest.name, "video": base64.b64encode(data).decode()})
    yield Send("clip base64", "POST", "/v1/label-frames", JSON, text, truth=truth, reads=framed)
    if STREAMER in manifest.graphs:
        events = {**kind, "Accept": EVENT_STREAM}
        yield Send("clip events", "POST", query, events, data, truth=truth, reads=last_event(framed))
    yield Send("clip VTT", "POST", query, {**kind, "Accept": VTT}, data)


def heard(folder: Path, manifest: Manifest, samples: NDArray[np.float32]) -> str:
    """What a published model makes of samples, by ONNX Runtime alone."""
    graph = WHOLE if WHOLE in manifest.graphs else STREAMER
    session = ort.InferenceSession(folder / manifest.graphs[graph].file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    if graph == WHOLE:
        assert manifest.sound is not None
        outputs = dict(zip(names, session.run(names, dict(as_row(samples, manifest.sound.rate))), strict=True))
        log_probabilities = outputs[OUTPUT][0, : int(outputs["steps"][0])]
    else:
        sampler = stream(samples, chunk=chunk_of(manifest), states=first_states(manifest), flush=late(manifest))
        feed = next(sampler)
        while True:
            try:
                feed = sampler.send(dict(zip(names, session.run(names, dict(feed)), strict=True)))
            except StopIteration as end:
                log_probabilities = end.value[OUTPUT][0]
                break
    return " ".join(manifest.labels[token.label] for token in search(log_probabilities, manifest, 3)[0].tokens)


def form_of(fields: dict[str, bytes], file: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a form with a file."""
    parts = [(f'name="{name}"', value) for name, value in fields.items()]
    parts.append(('name="file"; filename="said.ogg"', file))
    body = b"".join(
        f"--{LINE}\r\nContent-Disposition: form-data; {about}\r\n\r\n".encode() + value + b"\r\n"
        for about, value in parts
    )
    return {"Content-Type": f"multipart/form-data; boundary={LINE}"}, body + f"--{LINE}--\r\n".encode()


def words(body: bytes) -> Any:
    return json.loads(body)["results"][0]["text"]


def labels(body: bytes) -> Any:
    return json.loads(body)["results"][0]["label"]


def framed(body: bytes) -> Any:
    return [frame["label"] for frame in json.loads(body)["frames"]]


def text_of(body: bytes) -> Any:
    return json.loads(body)["text"]


def plain(body: bytes) -> Any:
    return body.decode().strip()


def cued(body: bytes) -> Any:
    """The words of subtitles."""
    lines = body.decode().splitlines()
    return " ".join(line for line in lines if line and "-->" not in line and not line.isdecimal() and line != "WEBVTT")


def last_event(reads: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Of a stream of events, what is read of the last one's data."""
    return lambda body: reads(body.strip().rpartition(b"\n")[2].removeprefix(b"data: "))
