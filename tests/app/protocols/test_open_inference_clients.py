"""The whole of the protocol by Triton's two clients, unmodified; and every model of the checkout served by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient import http as client
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from app.core.manifest import MANIFEST_FILE, Golden, Manifest
from tests.app.live import LiveServer, open_server, strokes
from tests.made_models import brightness_probabilities

SHIPPED = Path(__file__).parents[3] / "models"
SMALL_BYTES = 64 << 20
MANIFESTS = sorted(SHIPPED.glob(f"*/*/{MANIFEST_FILE}"))


def inputs(binary: bool = True) -> list[Any]:
    tensor = client.InferInput("image", [3, 28, 28, 1], "UINT8")
    tensor.set_data_from_numpy(strokes(), binary_data=binary)
    return [tensor]


def known() -> NDArray[np.float64]:
    return brightness_probabilities(strokes(), 5)


@pytest.fixture
def triton(server: LiveServer) -> Iterator[client.InferenceServerClient]:
    with client.InferenceServerClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


@pytest.mark.anyio
async def test_the_aio_client_sees_what_is_there(server: LiveServer) -> None:
    async with aio.InferenceServerClient(f"127.0.0.1:{server.port}") as triton:
        assert await triton.is_server_live()
        assert await triton.is_server_ready()
        assert await triton.is_model_ready("digits", "1")
        assert not await triton.is_model_ready("digits", "9")
        assert "statistics" in (await triton.get_server_metadata())["extensions"]
        assert (await triton.get_model_metadata("digits"))["versions"] == ["1", "2"]
        assert (await triton.get_model_config("digits", "2"))["backend"] == "onnxruntime"
        assert len(await triton.get_model_repository_index()) == 4
        assert (await triton.get_trace_settings("digits"))["trace_level"] == ["OFF"]
        with pytest.raises(InferenceServerException, match=r"\[400\].*OpenTelemetry"):
            await triton.update_trace_settings(settings={"trace_level": ["TENSORS"]})
        with pytest.raises(InferenceServerException, match=r"\[403\].*LECTERN_MODEL_CONTROL"):
            await triton.unload_model("digits")
        (before,) = (await triton.get_inference_statistics("digits", "2"))["model_stats"]
        await triton.infer("digits", inputs())
        (after,) = (await triton.get_inference_statistics("digits", "2"))["model_stats"]
        assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1


@pytest.mark.anyio
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("squeezed", [None, "gzip", "deflate"])
async def test_the_aio_client_gets_the_right_answer_in_every_form(
    server: LiveServer, binary: bool, squeezed: str | None
) -> None:
    async with aio.InferenceServerClient(f"127.0.0.1:{server.port}") as triton:
        got = await triton.infer(
            "digits", inputs(binary), outputs=[client.InferRequestedOutput("probabilities", binary_data=binary)],
            model_version="2", request_id="seven", priority=1, timeout=20_000_000,
            request_compression_algorithm=squeezed, response_compression_algorithm=squeezed,
        )  # fmt: skip
        best = await triton.infer(
            "digits", inputs(), outputs=[client.InferRequestedOutput("probabilities", class_count=1)]
        )
    assert got.get_response()["id"] == "seven"
    assert (got.get_response()["model_name"], got.get_response()["model_version"]) == ("digits", "2")
    np.testing.assert_allclose(got.as_numpy("probabilities"), known(), atol=1e-4)
    indices = [int(text.decode().split(":")[1]) for text in best.as_numpy("probabilities")[:, 0]]
    assert indices == known().argmax(axis=1).tolist()


@pytest.mark.parametrize("priority", [0, 1, 2, 3, 7])
def test_every_priority_gets_its_answer(triton: client.InferenceServerClient, priority: int) -> None:
    got = triton.infer("digits", inputs(), priority=priority, timeout=20_000_000)
    np.testing.assert_allclose(got.as_numpy("probabilities"), known(), atol=1e-4)


@pytest.mark.parametrize("wrong", [-1, "first", 1.5, True])
def test_a_priority_that_is_none_is_refused(triton: client.InferenceServerClient, wrong: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"\[400\] parameters.priority is .*, expected a whole number"):
        triton.infer("digits", inputs(), priority=wrong)


def test_a_timeout_in_microseconds_that_cannot_be_kept_is_503(triton: client.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"\[503\]"):
        triton.infer("digits", inputs(), timeout=1)


def test_several_requests_at_once_get_each_its_own_answer(server: LiveServer) -> None:
    with client.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as triton:
        tensors, rows = [], []
        for level in range(12):
            rows.append(np.full((1, 28, 28, 1), level * 20, np.uint8))
            tensors.append(client.InferInput("image", [1, 28, 28, 1], "UINT8").set_data_from_numpy(rows[-1]))
        pending = [triton.async_infer("digits", [tensor], request_id=str(i)) for i, tensor in enumerate(tensors)]
        for i, waiting in enumerate(pending):
            got = waiting.get_result()
            assert got.get_response()["id"] == str(i)
            np.testing.assert_allclose(got.as_numpy("probabilities"), brightness_probabilities(rows[i], 5), atol=1e-4)


@pytest.fixture(scope="module")
def shipped() -> Iterator[Callable[[str], LiveServer]]:
    """Opens a server with one model of the checkout."""
    opened: dict[str, tuple[Any, LiveServer]] = {}

    def server_of(name: str) -> LiveServer:
        if name not in opened:
            context = open_server(SHIPPED, only=(name,), default_models={}, poll_s=0)
            opened[name] = (context, context.__enter__())
        return opened[name][1]

    yield server_of
    for context, _ in opened.values():
        context.__exit__(None, None, None)


@pytest.mark.skipif(not MANIFESTS, reason="no model in the checkout")
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: "/".join(path.parts[-3:-1]))
@pytest.mark.parametrize("binary", [True, False])
def test_every_shipped_model_gives_its_golden_answer(
    shipped: Callable[[str], LiveServer], path: Path, binary: bool
) -> None:
    manifest = Manifest.model_validate_json(path.read_bytes())
    if sum(file.stat().st_size for file in path.parent.glob("*.onnx")) > SMALL_BYTES:
        pytest.skip("too large for a test of everybody's")
    assert manifest.goldens, "a shipped model says what it must answer"
    for golden in manifest.goldens:
        with np.load(path.parent / golden.file, allow_pickle=False) as arrays:
            rows = dict(arrays)
        if not binary:  # JSON has no NaN, which is what a table's missing value is
            whole = [i for i in range(golden.rows) if all(np.isfinite(array[i]).all() for array in rows.values())]
            rows = {key: array[whole] for key, array in rows.items()}
        check_golden(shipped(manifest.name), manifest, golden, rows, binary=binary)


def check_golden(
    server: LiveServer, manifest: Manifest, golden: Golden, rows: dict[str, NDArray[Any]], *, binary: bool
) -> None:
    graph = manifest.graphs[golden.graph]
    name = manifest.name if len(manifest.graphs) == 1 else f"{manifest.name}.{golden.graph}"
    with client.InferenceServerClient(f"127.0.0.1:{server.port}") as triton:
        described = triton.get_model_metadata(name, manifest.version)
        datatypes = {tensor["name"]: tensor["datatype"] for tensor in described["inputs"]}
        tensors = [
            client.InferInput(t.name, list(rows[t.name].shape), datatypes[t.name]).set_data_from_numpy(
                rows[t.name], binary_data=binary
            )
            for t in graph.inputs
        ]
        outputs = [client.InferRequestedOutput(t.name, binary_data=binary) for t in graph.outputs]
        got = triton.infer(name, tensors, outputs=outputs, model_version=manifest.version)
        for tensor in graph.outputs:
            np.testing.assert_allclose(got.as_numpy(tensor.name), rows[tensor.name], atol=golden.atol)
        (stats,) = triton.get_inference_statistics(name, manifest.version)["model_stats"]
        assert stats["inference_count"] >= len(next(iter(rows.values())))


def test_who_speaks_version_1_is_told_what_to_ask_instead(server: LiveServer) -> None:
    # KServe's client does where its user names no protocol, and shows `error` where the type is this, to the letter.
    for verb in ("predict", "explain"):
        reply = server.ask("POST", f"/v1/models/digits:{verb}", b'{"instances": [[0]]}', {})
        assert (reply.status, reply.header("content-type")) == (404, "application/json")
        for instead in ("/v2/models/digits/infer", 'RESTConfig(protocol="v2")', "/v1/classify?model=digits"):
            assert instead in reply.json()["error"]
    unknown = server.ask("POST", "/v1/models/nine:predict", b"{}", {})
    assert (unknown.status, "digits, shades" in unknown.json()["error"]) == (404, True)
