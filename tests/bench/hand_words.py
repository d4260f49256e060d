"""python -m tests.bench.hand_words MODEL PORT [--ctranslate2]: what one writes by hand to translate over HTTP with
whole requests in a batch. All that wait are taken, at most 64, and translated to the end; who comes meanwhile waits.

MODEL is a translator's folder here, whose two graphs run in ONNX Runtime, greedily, in one thread. With `--ctranslate2`
it stands for its size alone: a Transformer of as many parameters, of random numbers, which CTranslate2 (pip install
ctranslate2==4.8.5) decodes greedily in one thread. Such a net does not end a sentence, so each becomes as long as the
longest that was read with it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request
from tokenizers import Tokenizer

MOST: Final = 64
HEADS: Final = 4
Translate = Callable[[Sequence[str]], list[str]]


def by_graphs(folder: Path) -> Translate:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    reader, writer = (
        Tokenizer.from_file(str(folder / manifest[side]["tokenizer"]["file"])) for side in ("text", "writing")
    )
    start, end, most = (manifest["writing"][name] for name in ("start", "end", "max_tokens"))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    encoder, step = (
        ort.InferenceSession(folder / manifest["graphs"][graph]["file"], options, providers=["CPUExecutionProvider"])
        for graph in ("encoder", "step")
    )
    outputs = [output.name for output in step.get_outputs()]
    states = [name.removeprefix("next_") for name in outputs if name.startswith("next_")]

    def translate(texts: Sequence[str]) -> list[str]:
        ids = [reader.encode(text).ids for text in texts]
        length = np.array([len(row) for row in ids])
        tokens = np.zeros((len(ids), length.max()), np.int64)
        for row, known in zip(tokens, ids, strict=True):
            row[: len(known)] = known
        found = dict(
            zip(
                (output.name for output in encoder.get_outputs()),
                encoder.run(None, {"tokens": tokens, "length": length}),
                strict=True,
            )
        )
        memory, token = found["memory"], np.full(len(ids), start)
        kept = {name: found[name] for name in states}
        written = np.zeros((len(ids), most), np.int64)
        open_ = np.ones(len(ids), bool)
        for t in range(most):
            got = step.run(outputs, {"token": token, "memory": memory, "length": length, **kept})
            after = dict(zip(outputs, got, strict=True))
            kept = {name: after[f"next_{name}"] for name in states}
            token = after["best"][:, 0]
            open_ &= token != end
            if not open_.any():
                break
            written[open_, t] = token[open_]
        return [writer.decode(row[row > 0].tolist()) for row in written]

    return translate


def by_ctranslate2(folder: Path, work: Path) -> Translate:
    import ctranslate2

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    reader = Tokenizer.from_file(str(folder / manifest["text"]["tokenizer"]["file"]))
    tokens = reader.get_vocab_size()
    width, layers = transformer_of(manifest["made"]["parameters"], tokens)
    save_transformer(ctranslate2, work, tokens, width, layers)
    translator = ctranslate2.Translator(str(work), device="cpu", inter_threads=1, intra_threads=1)

    def translate(texts: Sequence[str]) -> list[str]:
        ids = [reader.encode(text).ids for text in texts]
        length = max(map(len, ids))
        found = translator.translate_batch(
            [[f"w{token}" for token in row] for row in ids],
            beam_size=1,
            min_decoding_length=length,
            max_decoding_length=length,
        )
        return [" ".join(one.hypotheses[0]) for one in found]

    return translate


def transformer_of(parameters: int, tokens: int) -> tuple[int, tuple[int, int]]:
    """Width, and layers of encoder and decoder, of the Transformer nearest to so many parameters.

    Embeddings on both sides, of which the writing one is the last layer as well; feed-forward layers are four times as
    wide: a layer of the encoder has 12 width^2, one of the decoder 16.
    """
    choices = [(width, (enc, dec)) for width in range(128, 513, 32) for enc, dec in ((2, 1), (2, 2), (3, 2), (3, 3))]

    def size(choice: tuple[int, tuple[int, int]]) -> int:
        width, (enc, dec) = choice
        return 2 * tokens * width + (12 * enc + 16 * dec) * width**2

    return min(choices, key=lambda choice: abs(size(choice) - parameters))


def save_transformer(ctranslate2: Any, folder: Path, tokens: int, width: int, layers: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> Any:
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    def linear(layer: Any, read: int, written: int) -> None:
        layer.weight, layer.bias = matrix(written, read), np.zeros(written, np.float32)

    def norm(layer: Any) -> None:
        layer.gamma, layer.beta = np.ones(width, np.float32), np.zeros(width, np.float32)

    def attention(layer: Any, *sizes: int) -> None:
        norm(layer.layer_norm)
        for linear_, written in zip(layer.linear, sizes, strict=True):
            linear(linear_, width, written)

    spec = ctranslate2.specs.TransformerSpec.from_config(layers, HEADS)
    for side in (spec.encoder, spec.decoder):
        embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
        embeddings.weight = matrix(tokens, width)
        side.position_encodings.encodings = matrix(256, width)
        norm(side.layer_norm)
        for layer in side.layer:
            attention(layer.self_attention, 3 * width, width)
            if side is spec.decoder:
                attention(layer.attention, width, 2 * width, width)
            norm(layer.ffn.layer_norm)
            linear(layer.ffn.linear_0, width, 4 * width)
            linear(layer.ffn.linear_1, 4 * width, width)
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    spec.decoder.projection.bias = np.zeros(tokens, np.float32)
    names = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, tokens))]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.validate()
    spec.optimize()  # or what is shared is stored twice
    spec.save(str(folder))


def make(translate: Translate) -> FastAPI:
    waiting: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()

    async def work() -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await waiting.get()]
            while len(batch) < MOST and not waiting.empty():
                batch.append(waiting.get_nowait())
            texts = await loop.run_in_executor(None, translate, [text for text, _ in batch])
            for (_, future), text in zip(batch, texts, strict=True):
                future.set_result(text)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(work())
        yield
        worker.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def ready() -> str:
        return "ready"

    @app.post("/v1/translate")
    async def answer(request: Request) -> dict[str, Any]:
        future = asyncio.get_running_loop().create_future()
        waiting.put_nowait(((await request.json())["text"], future))
        return {"results": [{"text": await future}]}

    return app


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        model = Path(sys.argv[1])
        chosen = by_ctranslate2(model, Path(made)) if "--ctranslate2" in sys.argv else by_graphs(model)
        uvicorn.run(make(chosen), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
