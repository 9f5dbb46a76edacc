"""A Confluent-compatible schema registry, asked over its REST API for ids and schemas.

Named by SCHEMA_REGISTRY_URL (several addresses of one registry: separated by commas); SCHEMA_REGISTRY_USER_INFO is
user:password. A subject is the schema's full name (Confluent's RecordNameStrategy), as inboxes and parties' topics
hold events of many kinds. Asked with the standard library: confluent-kafka's own client brings five more packages.
"""

import base64
import json
import os
import threading
import time
import urllib.error
import urllib.request
from functools import cache
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from flexbus import avro, codec
from flexbus.catalogue import CATALOGUE
from flexbus.codec import Registry, WriterSchema
from flexbus.errors import CodecError, EnvironmentProblem, FaultCode
from flexbus.events import ReceiptsIssued
from schemas import avro_schemas

__all__ = ["RegistryServer", "configured"]

# All attempts together: a service says that the registry is away before its watchdog takes it for hanging.
_WITHIN_S = 10.0
_ROUNDS = 3
_PAUSE_S = 0.5
_MOST_BYTES = 2_000_000
_MOST_SCHEMAS = 10_000
# Ids are a sender's to choose: one that the registry does not know is not asked for again and again.
_MOST_UNKNOWN = 1_000
_UNKNOWN_FOR_S = 60.0
_AWAY_FOR_S = 60.0  # nor does a registry that is away cost every sender's record the time to find that out
_JSON = "application/vnd.schemaregistry.v1+json"
_EVENTS: dict[str, type[Any]] = {
    **{name: kind.event for name, kind in CATALOGUE.items()},
    "ReceiptsIssued": ReceiptsIssued,
}


def configured() -> "RegistryServer | None":
    """Return the registry that the environment names, the same one each time; None if it names none.

    Raises:
        EnvironmentProblem: what it names is no address.
    """
    url = os.environ.get("SCHEMA_REGISTRY_URL", "").strip()
    return _server(url, os.environ.get("SCHEMA_REGISTRY_USER_INFO", "")) if url else None


class RegistryServer(Registry):
    """A registry behind an address; what it has told is kept, as an id stands for the same schema for ever.

    Args:
        url: http or https address, or several of them separated by commas.
        user_info: user:password, or nothing.
    """

    def __init__(self, url: str, user_info: str = "") -> None:
        super().__init__({}, {})
        self._urls = [u.strip().rstrip("/") for u in url.split(",") if u.strip()]
        for one in self._urls:
            parts = urlsplit(one)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise EnvironmentProblem(
                    f"SCHEMA_REGISTRY_URL: {one.rpartition('@')[2]!r} is no address of a registry: write "
                    "http://host:port or https://..., and user:password in SCHEMA_REGISTRY_USER_INFO."
                )
        self._headers = {"Accept": _JSON, "Content-Type": _JSON}
        if user_info:
            self._headers["Authorization"] = "Basic " + base64.b64encode(user_info.encode()).decode()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._unknown: dict[int, float] = {}
        self._away_until, self._trouble = 0.0, ""
        self._lock = threading.RLock()

    def learn(self) -> None:
        """Make every version of every event known to the registry and here, so that later nothing has to be asked.

        Raises:
            EnvironmentProblem: the registry does not answer, or refuses.
        """
        by_name: dict[str, list[Any]] = {}
        for raw in avro_schemas().values():
            by_name.setdefault(raw["name"], []).append(raw)
        with self._lock:
            for name in _EVENTS:
                for raw in by_name[name]:
                    self._writers[self._id(name, raw)] = codec.writer_schema(raw)
                self.id_of(name)

    def id_of(self, name: str) -> int:
        """Return the id of a type's newest schema, which is registered if nobody has done so.

        Raises:
            CodecError: the type is written by the bus alone.
            EnvironmentProblem: the registry does not answer, or refuses.
        """
        with self._lock:
            if name not in self._ids:
                if name not in _EVENTS:
                    raise CodecError(FaultCode.UNKNOWN_EVENT, f"{name} is not written in Confluent framing")
                self._ids[name] = self._id(name, avro.schema_of(_EVENTS[name]))
            return self._ids[name]

    def writer(self, schema_id: int) -> WriterSchema:
        """Return the writer's schema of an id.

        Raises:
            CodecError: the registry has no such id, or it is no event's.
            EnvironmentProblem: the registry does not answer, or refuses.
        """
        found = self._writers.get(schema_id)  # without the lock: every record asks
        if found is not None:
            return found
        with self._lock:
            self._refuse_known_unknown(schema_id)
            answer = self._asked_for(schema_id)
            try:
                if answer is None:
                    message = f"schema id {schema_id} is not in the registry"
                    raise CodecError(FaultCode.UNKNOWN_SCHEMA, message)
                found = _written(schema_id, answer)
            except CodecError:
                self._unknown[schema_id] = time.monotonic()
                raise
            if len(self._writers) >= _MOST_SCHEMAS:
                self._writers.clear()
            self._writers[schema_id] = found
            return found

    def _asked_for(self, schema_id: int) -> Any:
        if time.monotonic() < self._away_until:
            raise EnvironmentProblem(self._trouble)
        try:
            return self._ask("GET", f"/schemas/ids/{schema_id}", None, missing=True)
        except EnvironmentProblem as problem:
            self._away_until, self._trouble = time.monotonic() + _AWAY_FOR_S, str(problem)
            raise

    def _refuse_known_unknown(self, schema_id: int) -> None:
        since = time.monotonic() - _UNKNOWN_FOR_S
        if schema_id not in self._unknown and len(self._unknown) < _MOST_UNKNOWN:
            return
        self._unknown = {i: at for i, at in self._unknown.items() if at > since}
        if schema_id in self._unknown:
            raise CodecError(FaultCode.UNKNOWN_SCHEMA, f"schema id {schema_id} is no event's in the registry")
        if len(self._unknown) >= _MOST_UNKNOWN:
            raise CodecError(
                FaultCode.UNKNOWN_SCHEMA,
                f"schema id {schema_id} is not known, and too many unknown ids came in the last {_UNKNOWN_FOR_S:.0f} s "
                "to ask the registry for it: send it again later, or as an Avro single object",
            )

    def _id(self, name: str, schema: Any) -> int:
        subject = f"/subjects/{quote(f'{avro.NAMESPACE}.{name}', safe='')}"
        body = {"schema": json.dumps(schema)}
        # Looked up first: who may not register can still use what the bus itself has registered.
        answer = self._ask("POST", subject, body, missing=True) or self._ask("POST", f"{subject}/versions", body)
        found = answer.get("id") if isinstance(answer, dict) else None
        if type(found) is not int or not 0 <= found < 2**32:
            raise EnvironmentProblem(f"The schema registry at {self._urls[0]} gave no id for {name}: is it a registry?")
        return found

    def _ask(self, method: str, path: str, body: Any, *, missing: bool = False) -> Any:
        """Return the registry's answer; None for "not found" where that may be."""
        why = ""
        for attempt in range(_ROUNDS * len(self._urls)):
            if attempt and attempt % len(self._urls) == 0:
                time.sleep(_PAUSE_S)
            url = self._urls[attempt % len(self._urls)]
            data = None if body is None else json.dumps(body).encode()
            try:
                status, text = self._answer(urllib.request.Request(url + path, data, self._headers, method=method))
                if status < 300:
                    return json.loads(text)
            except (OSError, ValueError, HTTPException) as error:
                why = f"{type(error).__name__}: {error}"
                continue
            said = text.decode(errors="replace")
            if status == 404 and missing and _is_registry(said):
                return None
            why = f"HTTP {status}: {said[:300]}"
            if status < 500:
                break
        raise EnvironmentProblem(
            f"The schema registry at {', '.join(self._urls)} does not answer {method} {path} ({why}): is it running, "
            "and are SCHEMA_REGISTRY_URL and SCHEMA_REGISTRY_USER_INFO right? Unset them to write Avro single objects."
        )

    def _answer(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with self._opener.open(request, timeout=_WITHIN_S / (_ROUNDS * len(self._urls))) as answer:
                text = answer.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            return error.code, error.read(500)
        if len(text) > _MOST_BYTES:
            raise ValueError(f"an answer of more than {_MOST_BYTES} bytes")
        return answer.status, text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the password is for the named address alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


@cache
def _server(url: str, user_info: str) -> RegistryServer:
    return RegistryServer(url, user_info)


def _is_registry(said: str) -> bool:
    """Tell "not in the registry" (codes 40401 to 40403) from "this path does not exist here"."""
    try:
        return str(json.loads(said)["error_code"]).startswith("404") and json.loads(said)["error_code"] != 404
    except (ValueError, KeyError, TypeError):
        return False


def _written(schema_id: int, answer: Any) -> WriterSchema:
    if not isinstance(answer, dict) or answer.get("schemaType", "AVRO") != "AVRO" or answer.get("references"):
        raise CodecError(
            FaultCode.UNKNOWN_SCHEMA, f"schema id {schema_id} is no Avro schema of its own in the registry"
        )
    try:
        raw = json.loads(answer.get("schema", ""))
    except (ValueError, TypeError, RecursionError) as error:
        message = f"schema id {schema_id} is no Avro schema in the registry: {error}"
        raise CodecError(FaultCode.UNKNOWN_SCHEMA, message) from error
    return codec.writer_schema(raw)
