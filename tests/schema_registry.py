"""A schema registry in this process that answers as Confluent's does to what flexbus asks, for tests."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeRegistry:
    """What it holds and what it was asked.

    Attributes:
        url: its address.
        schemas: schema text by id.
        subjects: ids of a subject's versions.
        asked: method and path of each request.
        authorization: what the last request proved itself by.
        broken: answers to give instead, one a request: HTTP status.
    """

    def __init__(self) -> None:
        self.url = ""
        self.schemas: dict[int, str] = {}
        self.subjects: dict[str, list[int]] = {}
        self.asked: list[str] = []
        self.authorization: str | None = None
        self.broken: list[int] = []

    def put(self, text: str) -> int:
        """Give a schema an id; the same text has the same one."""
        for schema_id, known in self.schemas.items():
            if known == text:
                return schema_id
        self.schemas[len(self.schemas) + 101] = text
        return len(self.schemas) + 100

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match method, path.strip("/").split("/"):
            case "POST", ["subjects", subject, "versions"]:
                schema_id = self.put(body["schema"])
                self.subjects.setdefault(subject, []).append(schema_id)
                return 200, {"id": schema_id}
            case "POST", ["subjects", subject]:
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                for schema_id in self.subjects[subject]:
                    if self.schemas[schema_id] == body["schema"]:
                        return 200, {"subject": subject, "id": schema_id, "version": 1, "schema": body["schema"]}
                return 404, {"error_code": 40403, "message": "Schema not found"}
            case "GET", ["schemas", "ids", schema_id]:
                if int(schema_id) in self.schemas:
                    return 200, {"schema": self.schemas[int(schema_id)]}
                return 404, {"error_code": 40403, "message": "Schema not found"}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


@contextmanager
def schema_registry() -> Iterator[FakeRegistry]:
    """Run a registry at an address of its own."""
    fake = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.asked.append(f"{method} {self.path}")
            fake.authorization = self.headers.get("Authorization")
            if fake.broken:
                status, value = fake.broken.pop(0), {"error_code": 50001, "message": "broken"}
            else:
                status, value = fake.answer(method, self.path, json.loads(text or b"null"))
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
