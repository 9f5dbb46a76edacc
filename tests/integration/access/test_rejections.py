"""What was refused is for its sender, by its own rights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flexbus import codec
from flexbus import events as ev
from flexbus.cli.rejections import command as rejections_command
from flexbus.topics import REJECTIONS, inbox, party_topic
from tests.integration.access.bus import Bus, logged
from tests.integration.core import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_party_finds_and_mends_its_own_rejections_with_its_own_rights(bus: Bus, tmp_path: Path) -> None:
    """It may read its receipts and its inbox, and neither the topic of rejections nor another's inbox."""
    area = "mending"
    bus.found(area)
    key = Ed25519PrivateKey.generate()

    def rejections(*arguments: str, party: str = "fsp", given: bytes = b"") -> Any:
        connected = ["--bootstrap", bus.broker.bootstrap, "--kafka-properties", str(bus.made.properties[party])]
        return CliRunner().invoke(rejections_command, [*arguments, *connected], given, standalone_mode=False)

    def listed(party: str) -> dict[str, dict[str, Any]]:
        done = rejections("list", "--area", area, "--json", party=party)
        assert done.exception is None, done.exception
        return {r["rejection_id"]: r for r in map(json.loads, done.stdout.splitlines())}

    wrong = ev.MandateGranted(
        area_id=area, mandate_id="m", grantor_id="dso", agent_id="brp", event_types=(), valid_from_ms=0
    )
    with bus.client("fsp") as fsp, bus.client("brp") as brp:
        fsp.signing_key = key
        refused = fsp.send(wrong)
        others = brp.send(wrong)
    assert refused.faults
    assert others.faults
    eventually(lambda: len(listed("auditor")) == 2, 60, "the rejections are missing")
    everything = listed("auditor")
    assert [r["replaced_by"] for r in everything.values()] == [[], []]
    own = listed("fsp")
    ((rejection_id, found),) = own.items()
    assert found == everything[rejection_id]
    out = tmp_path / "original"
    shown = json.loads(rejections("show", rejection_id, "--out", str(out)).stdout)
    assert (shown["event_id"], shown["event"]) == (refused.event_id, codec.to_json(wrong))
    assert out.read_bytes() == codec.encode(wrong)
    (of_another,) = everything.keys() - own.keys()
    assert isinstance(rejections("show", of_another).exception, click.UsageError)

    as_it_was = json.loads(rejections("resend", rejection_id).stdout)
    assert {f["code"] for f in as_it_was["faults"]} == {f.code.value for f in refused.faults}, "and no BAD_HEADER"
    repaired = replace(wrong, grantor_id="fsp")
    done = rejections("resend", rejection_id, "--with", "-", given=json.dumps(codec.to_json(repaired)).encode())
    assert json.loads(done.stdout)["verdict"] == "ACCEPTED"
    (first, second) = listed("fsp")[rejection_id]["replaced_by"]
    assert (first["event_id"], second["event_id"]) == (as_it_was["event_id"], json.loads(done.stdout)["event_id"])
    assert (first["rejection_id"] in listed("fsp"), second["rejection_id"]) == (True, None)
    assert listed("auditor")[rejection_id]["replaced_by"] == [first, second], "who audits follows the link"
    noted = {r["resource"].partition("?")[0] for r in logged(bus, "--reader", "fsp")}
    assert {inbox("fsp"), party_topic("fsp")} <= noted, "its reads are on record"
    assert REJECTIONS not in noted
