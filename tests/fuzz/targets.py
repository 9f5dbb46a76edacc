"""What is fuzzed: each target takes any bytes, and raises only if something is wrong with the project.

A refusal is fine, if it names its faults; anything else that is raised is a crash.
"""

import io
import json
import random
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from clearing.check import check_case
from clearing.convert.errors import ConversionError
from clearing.convert.matpower import network_from_matpower, read_matpower
from clearing.files import case_to_text, read_case, read_result
from flexbus import codec
from flexbus import events as ev
from flexbus.cli.send import _read as lines_of
from flexbus.errors import CodecError, FaultyInputError
from flexbus.views.harmonise import Source
from streams.inputs import Input
from streams.intake import Intake
from tests import clearing_cases, market
from tests.fuzz.files import FILES, FORECAST, file_seeds
from tests.fuzz.folds import fold_seeds, folds
from tests.fuzz.mutate import meddled_avro, meddled_json
from tests.fuzz.sender import Sender, named, sendable
from tests.integration.core import FSP_A, FSP_B, founding, offer_of
from tests.unit.test_intake import AREA, HOME, Inbox, fresh

__all__ = ["TARGETS", "meddled", "seeds"]

PARTIES = (FSP_A, FSP_B, "fmo", "dso", "scheduler", "clearing", "nobody", "")
_HEADERS = ("ce_id", "ce_type", "ce_subject", "ce_time", "ce_onbehalfof", "ce_signature", "other")


def decode(data: bytes) -> None:
    """A record's value: decodable and stable, or refused with its fault."""
    try:
        event = codec.decode(data)
    except CodecError as error:
        named((error.fault(),))
        return
    again = codec.encode(event)
    assert codec.encode(codec.decode(again)) == again


def send(data: bytes) -> None:
    """A file of `flexbus send`: every line becomes a record or is refused with every fault."""
    _sendable(data, None)


def foreign(data: bytes) -> None:
    """A file of `flexbus send --source`: every line becomes a forecast or is refused with every fault."""
    _sendable(data, PLANNER)


def _sendable(data: bytes, source: Source | None) -> None:
    for line in lines_of(Sender(), io.BytesIO(data), None, False, {}, source):  # type: ignore[arg-type]
        if line.record is None:
            named(tuple(line.faults))
        else:
            codec.decode(line.record.value)
            sendable(line.record)


@cache
def _running() -> tuple[Intake, Any]:
    intake, box = fresh(), Inbox()
    outcome = intake.take([box.record(sender, event) for sender, event in founding(AREA)])
    assert outcome.rejections == []
    return intake, count(1000)


def sequencer(data: bytes) -> None:
    """An inbox record of any party, with any headers: one verdict, and a refusal names its faults."""
    intake, offsets = _running()
    head, value = data[:4].ljust(4, b"\0"), data[4:]
    offset = next(offsets)
    headers: list[tuple[str, bytes | None]] = []
    if head[1] & 1:  # an id of its own, or one of a few that come again
        number = offset if head[1] & 2 else head[1]
        headers.append(("ce_id", str(UUID(int=number, version=4)).encode()))
    if head[2]:
        size = head[2] & 31
        headers.append((_HEADERS[head[2] >> 5 if head[2] >> 5 < 7 else 0], value[:size]))
        value = value[size:]
    given = Input(
        topic=f"flexbus.in.{PARTIES[head[0] & 7]}.v1",
        partition=HOME,
        offset=offset,
        received_at_ms=1_000_000 + offset,
        key=value[:8] if head[3] & 1 else None if head[3] & 2 else AREA.encode(),
        value=None if head[3] & 4 else value,
        headers=tuple(headers),
    )
    outcome = intake.take([given])
    assert sum(len(b.entries) for b in outcome.blocks) + len(outcome.rejections) + outcome.duplicates == 1
    for rejection in outcome.rejections:
        named(rejection.faults)
        assert not any("could not be checked" in f.message for f in rejection.faults), rejection.faults
    for written in (*outcome.blocks, *outcome.rejections, *outcome.receipts):
        assert codec.decode(codec.encode(written)) == written


def case(data: bytes) -> None:
    """A case or result file: read, or refused with every fault; a case that is read can be checked."""
    for read in (read_case, read_result):
        try:
            found = read(data)
        except FaultyInputError as error:
            named(error.faults)
        else:
            if read is read_case:
                faults = check_case(found)  # type: ignore[arg-type]
                assert not faults or all(f.message for f in faults)


def matpower(data: bytes) -> None:
    """A MATPOWER file: read, or refused with words."""
    with tempfile.NamedTemporaryFile(suffix=".m") as file:
        path = Path(file.name)
        path.write_bytes(data)
        try:
            network_from_matpower(read_matpower(path), area_id="a", network_id="n")
        except ConversionError as error:
            found = error.faults
        else:
            return
    assert found


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f for f in (decode, send, foreign, sequencer, folds, case, matpower)
} | FILES
A_TENTH = {"folds"}  # of the runs of the others, as each plays a whole market day
# What an input is beneath its bytes, where one may meddle with it there too.
JSON_LINES = {
    "send", "foreign", "folds", "case", "raw", "source", "repaired", "checkpoint", "certificate", "notes_of_a_run",
}  # fmt: skip
AVRO_AFTER = {"decode": 0, "sequencer": 4}  # bytes


@cache
def seeds() -> dict[str, list[bytes]]:
    """Valid inputs of every target, to start from."""
    events = [e for _, e in founding(AREA)] + [offer_of(1, AREA), *with_terms()]
    values = [codec.encode(e) for e in events]
    lines = [json_line(e) for e in events]
    return {
        "decode": values,
        "send": [*lines, b"".join(lines)],
        "foreign": [FORECAST, FORECAST * 2],
        "sequencer": [bytes([n % 8, 3, 0, 0]) + v for n, v in enumerate((*values, *lines))],
        "folds": fold_seeds(),
        "case": [case_to_text(c).encode() for c in [clearing_cases.market_day(1, 4, 4, 3)]],
        "matpower": [MATPOWER],
        **file_seeds(),
    }


def with_terms() -> list[Any]:
    """An offer of every kind of term, and a request for reactive power."""
    var = ev.ReactiveSlot(steps=(ev.ReactiveStep(reactive_power_var=5_000, price_milli_per_mvarh=2_000),))
    corner = ev.PolygonVertex(energy_before_wh=0, energy_wh=100)
    rigid = ev.StartChoice(profile_w=(5_000, 0, 9_000), latest_start_ms=market.START, price_milli_per_mwh=7)
    every = (
        ev.OfferTerms(
            tan_phi_ppm=-5,
            max_run_slots=2,
            min_rest_slots=1,
            max_rise_w=5_000,
            payback=ev.Payback(factor_ppm=900_000, window_slots=3),
            polygons=(ev.PolygonSlice(slot=0, vertices=(corner,)),),
            unit_id="u",
            storage=ev.Storage(initial_energy_wh=1, max_energy_wh=50_000, baseline_power_w=(-7,) * 96),
        ),
        ev.OfferTerms(reactive=ev.ReactiveOffer(slots=(var,)), unit_id="v", inverter=ev.Inverter(max_tan_phi_ppm=9)),
        ev.OfferTerms(start_choice=rigid),
    )
    offers = [
        market.offer(f"t{n}", slots=0 if t.reactive or t.start_choice else 2, terms=t) for n, t in enumerate(every)
    ]
    asked = market.request("q", power_w=(), max_price_milli_per_mwh=0, reactive_slots=(var,))
    return [
        *(ev.FlexOfferSubmitted(area_id=AREA, offer=o) for o in offers),
        ev.FlexRequestSubmitted(area_id=AREA, request=asked),
    ]


def meddled(name: str, data: bytes, chance: random.Random) -> bytes:
    """Return an input of a target with other values in it, where it is JSON or an event; else as it is."""
    if name in JSON_LINES:
        return meddled_json(data, chance)
    if name in AVRO_AFTER:
        head = AVRO_AFTER[name]
        meddle = meddled_json if data[head : head + 1] == b"{" else meddled_avro
        return data[:head] + meddle(data[head:], chance)
    return data


def json_line(event: Any) -> bytes:
    return json.dumps(codec.to_json(event)).encode() + b"\n"


PLANNER = Source(unit="kW", export_positive=False, elements={"Trafo 1": "T1"})
MATPOWER = b"""function mpc = two
mpc.version = '2';
mpc.baseMVA = 10;
mpc.bus = [
 1 3 0 0 0 0 1 1 0 20 1 1.1 0.9;
 2 1 1 0.2 0 0 1 1 0 20 1 1.1 0.9;
];
mpc.gen = [ 1 0 0 9 -9 1 10 1 9 0; ];
mpc.branch = [ 1 2 0.01 0.02 0 5 5 5 0 0 1 -360 360; ];
"""
