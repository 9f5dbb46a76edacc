"""The files and texts that the command line reads beside events: each target takes any bytes of one.

A file is read, or refused in words that say why; anything else that is raised is a crash.
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from clearing import clear
from clearing.canonical import result_hash
from clearing.case import Case
from clearing.certificate import certify
from clearing.convert.errors import ConversionError
from clearing.convert.simbench import MONTHS, _first_slot, load_simbench
from clearing.files import case_to_text, read_case, read_result, result_to_text
from clearing.result import Result
from flexbus import codec
from flexbus.cli.access import parties_of
from flexbus.cli.down import _supervisor
from flexbus.cli.rejections import again
from flexbus.cli.send import _read as lines_of
from flexbus.cli.send_foreign import read_source
from flexbus.cli.tail import _instant
from flexbus.client import Client
from flexbus.errors import CodecError, EnvironmentProblem, FaultyInputError
from flexbus.events import EventRejected
from flexbus.signing import private_key
from streams.broker import Broker
from streams.checkpoint import Checkpoints, Image, images_of
from streams.clock import read_tick
from streams.monitor import notes
from streams.packing import PackingError
from streams.properties import read_properties
from streams.stages import VIEWS
from tests import clearing_cases
from tests.fuzz.sender import Sender, named, said, sendable, unsaid
from tests.integration.core import FSP_A, founding, offer_of
from tests.unit.test_intake import AREA, fresh
from tests.unit.test_rejections import given, rejected

__all__ = ["FILES", "file_seeds"]

SECRET = "sesame-open"
_SERVICE = "traffic_light"


def raw(data: bytes) -> None:
    """A file of `flexbus send --raw`: whatever is in a line goes, unless it is too large."""
    for line in lines_of(Sender(), io.BytesIO(data), None, True, {}):  # type: ignore[arg-type]
        assert line.record is not None or {f.code.value for f in line.faults} == {"TOO_LARGE"}
        assert json.loads(json.dumps(line.verdict()))["line"] == line.number
        if line.record is not None:
            sendable(line.record)


def source(data: bytes) -> None:
    """The file of `flexbus send --source`: unit, sign and names, or every fault with the file's name."""
    try:
        found = read_source(io.BytesIO(data))
    except FaultyInputError as error:
        named(tuple(replace(f, path=f.path.removeprefix("source ")) for f in error.faults))
        return
    for line in lines_of(Sender(), io.BytesIO(FORECAST), None, False, {}, found):  # type: ignore[arg-type]
        if line.record is None:
            named(tuple(line.faults))


def repaired(data: bytes) -> None:
    """The file of `flexbus rejections resend --with`: an event, or every fault."""
    try:
        record = Client.record(Sender(), data)  # type: ignore[arg-type]
    except FaultyInputError as error:
        named(error.faults)
    else:
        sendable(record)


def resend(data: bytes) -> None:
    """A rejection as the topic has it: sent again as it was, under a new id."""
    try:
        found = codec.decode_as(data, EventRejected)
    except CodecError as error:
        named((error.fault(),))
        return
    try:
        record = again(found, None)
    except click.UsageError:
        assert "ce_signature" in found.headers
    else:
        assert record.value == found.original
        sendable(record)


def properties(data: bytes) -> None:
    """A file of Kafka client properties: names and values, or a line's number; never what is in it."""
    with _file(data) as path:
        try:
            found = read_properties(path)
        except EnvironmentProblem as problem:
            said(problem, str(path))
            unsaid(problem, SECRET)
        else:
            assert all(name and isinstance(value, str) for name, value in found.items())


def key(data: bytes) -> None:
    """A file of `--signing-key`: an Ed25519 key in PEM, or why not."""
    try:
        private_key(data)
    except ValueError as error:
        said(error)


def checkpoint(data: bytes) -> None:
    """A checkpoint whose SHA-256 fits whatever is in it: an image, or not used, with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Checkpoints(Path(folder), _SERVICE)
        path = kept._path(0)
        path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())
        kept._is_mine(path)
        try:
            image = kept._load(path)
        except (ValueError, PackingError) as error:
            said(error)
        else:
            assert type(image.next_offset) is int
            # Whether hash and number are those of a block is asked of the journal.
            assert all(type(a.offset) is int and isinstance(a.hash, bytes) for a in image.areas)


def certificate(data: bytes) -> None:
    """Case and result of `flexbus certify`, one of them changed: findings, or that it holds."""
    case, result = _cleared()
    try:
        if data.lstrip()[:24].find(b"flexbus-case") >= 0:
            case = read_case(data)
        else:
            result = read_result(data)
    except FaultyInputError as error:
        named(error.faults)
        return
    outcome = certify(case, result)
    assert outcome.findings or (case, result) == _cleared()
    # Who changes a number can hash as well; not every text has a check of its own then.
    for finding in certify(case, replace(result, result_hash=result_hash(result))).findings:
        assert finding.message


def notes_of_a_run(data: bytes) -> None:
    """What `flexbus down`, the page and `flexbus broker status` find in a run directory: a note, or none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "services").mkdir()
        for path in ("services/publisher-1.json", "supervisor.json", "broker.json"):
            (folder / path).write_bytes(data)
        for note in notes(folder):
            note.process()
        _supervisor(folder)
        try:
            Broker(folder).status()
        except EnvironmentProblem as problem:
            said(problem, "broker.json")
    read_tick(data)


def option(data: bytes) -> None:
    """The texts of `--day`, `--grid`, `--party` and `--from`: understood, or refused in words."""
    text = data.decode(errors="surrogateescape")
    for understand in (_day, _grid, _parties, partial(_instant, _NOWHERE, _NOWHERE)):
        try:
            understand(text)
        except (ConversionError, click.BadParameter) as error:
            said(error)


def _day(text: str) -> None:
    if text not in MONTHS:
        assert 0 <= _first_slot(None, text, "grid") < 366 * 96


def _grid(text: str) -> None:
    if not text.startswith(("1-", "0-")):  # a grid that there is takes seconds to load
        load_simbench(text)


def _parties(text: str) -> None:
    parties_of([text])


class _file:  # noqa: N801 - used as a function is
    def __init__(self, data: bytes) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "file"
        self._path.write_bytes(data)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


@cache
def _cleared() -> tuple[Case, Result]:
    case = clearing_cases.market_day(2, 3, 2, 3)
    return case, clear(case)


def _checkpoint_text() -> bytes:
    """A checkpoint of the market before its first gate."""
    from streams.area import Area
    from tests.unit.test_intake import Inbox

    box = Inbox()
    events = [*founding(AREA), (FSP_A, offer_of(1, AREA))]
    area = Area(AREA, VIEWS[_SERVICE], 0)
    for block in fresh().take([box.record(sender, event) for sender, event in events]).blocks:
        area.take(block)
    area.offset = 0
    kept = Checkpoints(None, _SERVICE)
    image = Image(partition=0, next_offset=1, areas=images_of([area]))
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in kept._lines(image))


FILES: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (
        raw, source, repaired, resend, properties, key, checkpoint, certificate, notes_of_a_run, option,
    )
}  # fmt: skip


def file_seeds() -> dict[str, list[bytes]]:
    """Valid files of every target, to start from."""
    case, result = _cleared()
    event = json.dumps(codec.to_json(offer_of(1, AREA))).encode()
    pem = Ed25519PrivateKey.from_private_bytes(bytes(32)).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return {
        "raw": [event + b"\n", b'{"area_id": 7}\nno event\n\n'],
        "source": [b'{"unit": "kW", "export_positive": false, "elements": {"Trafo 1": "T1"}}'],
        "repaired": [event],
        "resend": [codec.encode(rejected(given())), codec.encode(rejected(given(ce_signature=None)))],
        "properties": [f"security.protocol=SASL_SSL\n# note\nsasl.password: {SECRET}\n".encode()],
        "key": [pem],
        "checkpoint": [_checkpoint_text()],
        "certificate": [result_to_text(result).encode(), case_to_text(case).encode()],
        "notes_of_a_run": [
            b'{"service": "publisher", "slot": 0, "pid": 1, "port": 80, "started": 1.5}',
            b'{"pid": 1, "created": 1.5, "port": 9092, "controller_port": 9093, "secure": false}',
            b'{"pid": 1, "started": 1.5, "kafka": "127.0.0.1:9092"}',
            b'{"market_ms": 1800000000000}',
        ],
        "option": [b"winter", b"06-15", b"2016-06-15", b"dso=DSO,METER_OPERATOR", b"2027-07-25T00:00:00+02:00"],
    }


FORECAST = b"""\
{"area_id": "north", "forecast_id": "p", "revision": 1, "element": "Trafo 1", \
"issued_at": "2027-01-14T09:30:00+02:00", "resolution_s": 900, \
"times": ["2027-01-15T00:00:00Z", "2027-01-15T00:15:00Z"], "values": [4.9, "-5e2"], \
"limit_import": 5}
"""
_NOWHERE: Any = None  # what click tells a callback of, which is not asked for
