"""Swap a large model under load in a process of its own: `python -m tests.app.engine.swaps FOLDER SWAPS`.

Prints one line of JSON: `mib`, the resident memory before the first swap and after each, in MiB; `weights_mib`, what
one model's weights take; `answered`, the requests answered meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from app.engine.registry import Registry
from tests.made_models import DIGIT, LABELS, change_manifest, classifier_manifest, onnx_bytes, write_folder

WIDTH = 8192
WEIGHTS_MIB = 28 * 28 * WIDTH * 4 / 2**20
CLIENTS = 4
ASKED = 20  # beside the clients, after each swap


def heavy_onnx() -> bytes:
    """`image` (rows, 28, 28, 1) -> `probabilities` (rows, labels), by way of a wide layer."""
    pixels = int(np.prod(DIGIT.shape))
    return onnx_bytes(
        [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "wide"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "narrow"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", *DIGIT.shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", len(LABELS)])],
        {
            "wide": np.random.default_rng(0).standard_normal((pixels, WIDTH), np.float32),
            "narrow": np.zeros((WIDTH, len(LABELS)), np.float32),
        },
    )


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def swap(folder: Path, swaps: int) -> None:
    version = folder / "tiny" / "1"
    answered = 0

    async with Registry(folder, device="cpu", threads=1) as registry:

        async def ask() -> None:
            nonlocal answered
            model = registry.catalog.get("tiny")
            with model.lease():
                answer = await model.run("classifier", {"image": np.zeros((1, *DIGIT.shape), np.uint8)})
            assert answer.tensors["probabilities"].shape == (1, len(LABELS))
            answered += 1

        async def ask_for_ever() -> None:
            while True:
                await ask()

        clients = [asyncio.create_task(ask_for_ever()) for _ in range(CLIENTS)]
        mib = [resident_mib()]
        for count in range(swaps):
            change_manifest(version, title=f"Brightness {count}")
            await registry.load("tiny")
            assert registry.catalog.generation == 2 + count
            for _ in range(ASKED):
                await ask()
            mib.append(resident_mib())
        done, _ = await asyncio.wait(clients, timeout=0)
        assert not done, [task.exception() for task in done]
        for client in clients:
            client.cancel()
    print(json.dumps({"mib": mib, "weights_mib": WEIGHTS_MIB, "answered": answered}))


def main() -> None:
    folder, swaps = Path(sys.argv[1]), int(sys.argv[2])
    data = heavy_onnx()
    write_folder(folder, classifier_manifest(data), {"classifier.onnx": data})
    asyncio.run(swap(folder, swaps))


if __name__ == "__main__":
    main()
