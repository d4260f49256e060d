"""Ask every task by a client that one of the makers wrote; run by the Python of build/clients, not by pytest.

    python call_python.py FOLDER ADDRESS EXAMPLES

FOLDER has the package `made`; EXAMPLES is JSON: [[operation, request's schema, title, body], ...]. Prints the title of
each example that was answered.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any


def by_openapi_python_client(made: Any, address: str) -> Any:
    client = made.Client(base_url=address, timeout=60)
    models = importlib.import_module("made.models")

    def call(operation: str, schema: str, body: dict[str, Any]) -> Any:
        endpoint = importlib.import_module(f"made.api.tasks.{operation}")
        request = getattr(models, schema).from_dict(body)
        assert request.to_dict() == body
        response = endpoint.sync_detailed(client=client, body=request)
        assert response.status_code == 200, response.content
        return response.parsed

    return call


def by_openapi_generator(made: Any, address: str) -> Any:
    api = made.TasksApi(made.ApiClient(made.Configuration(host=address)))

    def call(operation: str, schema: str, body: dict[str, Any]) -> Any:
        request = getattr(made, schema).from_dict(body)
        return getattr(api, operation)(**{re.sub(r"(?<!^)(?=[A-Z])", "_", schema).lower(): request})

    return call


def upload(made: Any, address: str, pictures: list[str], sound: str) -> None:
    """Files of forms, by the maker that writes forms too."""
    types, models = importlib.import_module("made.types"), importlib.import_module("made.models")
    client = made.Client(base_url=address, timeout=60)

    def file(path: str) -> Any:
        return types.File(payload=Path(path).open("rb"), file_name=Path(path).name)  # it reads it later

    classify = importlib.import_module("made.api.tasks.classify").sync_detailed
    seven = classify(client=client, body=models.ClassifyFilesBody(image=[file(path) for path in pictures]))
    assert [one.label for one in seven.parsed.results] == ["7"] * len(pictures), seven.content
    stop = classify(client=client, body=models.ClassifyFilesBody(sound=[file(sound)], top_k=2))
    assert [one.label for one in stop.parsed.results] == ["stop"], stop.content


def main(folder: str, address: str, examples: str, *files: str) -> None:
    sys.path.insert(0, folder)
    made = importlib.import_module("made")
    call = (by_openapi_generator if hasattr(made, "TasksApi") else by_openapi_python_client)(made, address)
    for operation, schema, title, body in json.loads(Path(examples).read_text(encoding="utf-8")):
        answer = call(operation.replace("-", "_"), schema, body)
        assert answer.model == body["model"], answer
        print(title)
    if files:
        upload(made, address, list(files[:-1]), files[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
