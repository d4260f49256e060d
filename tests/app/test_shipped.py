"""What is shipped answers as its own pages say: every example of the document, sent as it stands, to models/ itself."""

from __future__ import annotations

import json
from pathlib import Path

from tests.app.live import open_server
from tests.app.test_openapi import as_shown, examples

MODELS = Path(__file__).parents[2] / "models"


def test_every_example_of_the_shipped_models_answers_200() -> None:
    with open_server(MODELS) as server:
        document = server.get("/openapi.json").json()
        sent = [one for one in examples(document) if one[0].startswith("/v1")]
        named = {value["model"] for _, _, _, value in sent if "model" in value}
        assert named >= {"vae-mnist", "diffusion-mnist", "photo-denoiser"}
        assert all("model" in value for _, _, _, value in sent)
        for path, method, kind, value in sent:
            url = as_shown(path, document["paths"][path][method])
            reply = server.ask(method.upper(), url, json.dumps(value).encode(), {"Content-Type": kind})
            assert reply.status == 200, (path, str(value)[:300], reply.body[:500])
