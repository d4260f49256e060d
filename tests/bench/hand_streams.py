"""python -m tests.bench.hand_streams GRAPH PORT THREADS: what one writes by hand around a streaming
graph, a WebSocket of FastAPI that runs each piece in a thread and sends the words of the best path whenever they
change."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect


def make(graph: Path, threads: int) -> FastAPI:
    app = FastAPI()
    labels = json.loads((graph.parent / "manifest.json").read_text(encoding="utf-8"))["labels"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # 0: the default, one for each core
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    first, *states = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    @app.get("/")
    async def ready() -> str:
        return "ready"

    @app.websocket("/v1/transcribe")
    async def transcribe(socket: WebSocket) -> None:
        await socket.accept()
        loop = asyncio.get_running_loop()
        kept: dict[str, Any] = {s.name: np.zeros((1, *s.shape[1:]), np.float32) for s in states}
        words: list[str] = []
        left, last, told = np.zeros(0, np.float32), -1, 0
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                data = message.get("bytes")
                if data is None:
                    await socket.send_json({"event": "final", "text": " ".join(words)})
                    await socket.close()
                    return
                left = np.concatenate([left, np.frombuffer(data, "<i2").astype(np.float32) / 32768])
                while len(left) >= first.shape[1]:
                    piece, left = left[: first.shape[1]], left[first.shape[1] :]
                    feed = {first.name: piece[None], **kept}
                    logs, *after = await loop.run_in_executor(None, session.run, names, feed)
                    kept = {s.name: value for s, value in zip(states, after, strict=True)}
                    for k in logs[0].argmax(axis=1).tolist():
                        if k not in (last, len(labels)):
                            words.append(labels[k])
                        last = k
                    if len(words) != told:
                        told = len(words)
                        await socket.send_json({"event": "partial", "text": " ".join(words)})
        except WebSocketDisconnect:
            return

    return app


if __name__ == "__main__":
    uvicorn.run(make(Path(sys.argv[1]), int(sys.argv[3])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
