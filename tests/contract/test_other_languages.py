"""Another language reads events and checks chains with the schema files and the documents alone: Node with avsc.

The programs are the ones printed in the documents.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.events import EventRejected
from flexbus.journal import Block
from schemas import avro_dir
from tests.integration.core import FSP_A, founding, offer_of
from tests.unit.test_intake import AREA, Inbox, opened

DOCS = Path(__file__).parents[2] / "docs"
AVSC = "avsc@5.7.9"
# Node may be one that tests/tools.sh has put beside Python; npm is a program of Node and looks for it on PATH.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the documents' programs and the one library that they need."""
    npm = shutil.which("npm", path=ENVIRONMENT["PATH"])
    assert npm, "npm is missing: run `make tools`"
    folder = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(folder), AVSC]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for name, document in (("reader", "connect.md"), ("chain", "journal.md")):
        (program,) = re.findall(r"```js\n(.*?)```", (DOCS / document).read_text(encoding="utf-8"), re.DOTALL)
        (folder / f"{name}.js").write_text(program, encoding="utf-8")
    return folder


def run(node: Path, program: str, values: list[bytes], code: int = 0) -> str:
    (node / "program.js").write_text(program, encoding="utf-8")
    program_of_node = shutil.which("node", path=ENVIRONMENT["PATH"])
    assert program_of_node, "node is missing: run `make tools`"
    command = [program_of_node, str(node / "program.js"), str(avro_dir())]
    given = "\n".join(v.hex() for v in values)
    done = subprocess.run(command, input=given, cwd=node, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


READ = """
const { readSchemas, readEvent } = require("./reader.js");
const known = readSchemas(process.argv[2]);
for (const line of require("fs").readFileSync(0, "utf8").split("\\n"))
  console.log(JSON.stringify(readEvent(known, Buffer.from(line, "hex"))));
"""

VERIFY = """
const { readSchemas, readEvent } = require("./reader.js"), { verifyChain } = require("./chain.js");
const known = readSchemas(process.argv[2]);
const values = require("fs").readFileSync(0, "utf8").split("\\n");
console.log(verifyChain(values.map((v) => readEvent(known, Buffer.from(v, "hex")).event)).toString("hex"));
"""


def plain(value: Any) -> Any:
    """Drop what JavaScript's library adds: unions of null and a named type are wrapped in the type's name."""
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) in ("string", "long", "bytes", "boolean", "double"):
            return plain(next(iter(value.values())))
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def test_node_reads_events_with_the_schema_files_alone(node: Path) -> None:
    events = [offer_of(1, AREA), *(event for _, event in founding(AREA))]
    output = run(node, READ, [codec.encode(e) for e in events]).splitlines()
    for line, event in zip(output, events, strict=True):
        found = json.loads(line)
        assert found["type"] == f"org.flexbus.{type(event).__name__}"
        expected = codec.to_json(event)
        del expected["type"]
        assert plain(found["event"]) == expected


def test_node_knows_every_schema_by_its_fingerprint(node: Path) -> None:
    program = 'const known = require("./reader.js").readSchemas(process.argv[2]);'
    program += 'console.log([...known.keys()].join(" "));'
    found = set(run(node, program, []).split())
    classes = [
        ev.FlexOfferSubmitted,
        ev.MarketCleared,
        ev.NetworkModelPublished,
        ev.ReceiptsIssued,
        EventRejected,
        Block,
    ]
    assert {codec.fingerprint_of(c).hex() for c in classes} <= found


def test_node_verifies_a_chain(node: Path) -> None:
    box = Inbox()
    intake, blocks = opened(box)
    signed = box.record(FSP_A, offer_of(1, AREA))
    with_signature = (*signed.headers, ("ce_signature", bytes(range(64))))
    blocks += intake.take([type(signed)(**{**_fields(signed), "headers": with_signature})]).blocks
    blocks += intake.take([box.record(FSP_A, offer_of(n, AREA)) for n in range(2, 9)]).blocks
    encoded = [codec.encode(b) for b in blocks]
    assert run(node, VERIFY, encoded).strip() == blocks[-1].hash.hex()
    assert "expected block 1" in run(node, VERIFY, [encoded[0], encoded[2]], code=1)
    changed = encoded[1].replace(b"fsp-a-1", b"fsp-a-7")
    assert "block 1 was changed" in run(node, VERIFY, [encoded[0], changed, encoded[2]], code=1)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
