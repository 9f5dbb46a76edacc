"""Numbers beyond any machine, texts that cannot be written: faults with their path, in Python and the command."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clearing import Case, clear
from clearing.case import FixedAward, Offer, Payback, PolygonSlice, PolygonVertex, Unit, UnitKind
from clearing.files import case_to_text
from flexbus.cli import main
from flexbus.errors import FaultyInputError
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer

UP = Direction.UP
HUGE, MOST = 10**400, 2**63 - 1
SLOTS = 2


def base() -> Case:
    return case(
        chain(3, max_a=100),
        [injection("b2", [-3_600_000] * SLOTS)],
        slots=SLOTS,
        offers=(offer("o", "b2", UP, [[(100_000, 20_000)]] * SLOTS),),
    )


def offered(**more: Any) -> Case:
    given = base()
    return replace(given, offers=tuple(replace(o, **more) for o in given.offers))


def stored(**more: Any) -> Case:
    unit = Unit(unit_id="u", kind=UnitKind.STORAGE, max_energy_wh=100_000, initial_energy_wh=50_000)
    return replace(offered(unit_id="u"), units=(replace(unit, **more),))


def branched(**more: Any) -> Case:
    given = base()
    first, *others = given.network.branches
    return replace(given, network=replace(given.network, branches=(replace(first, **more), *others)))


def infed(**more: Any) -> Case:
    given = base()
    (point,) = given.network.infeed_points
    return replace(given, network=replace(given.network, infeed_points=(replace(point, **more),)))


def sliced(before: int, now: int) -> Offer:
    corner = PolygonVertex(energy_before_wh=before, energy_wh=now)
    return offered(polygons=(PolygonSlice(slot=1, vertices=(corner,)),)).offers[0]


HOSTILE: dict[str, Callable[[], Case]] = {
    **{
        f"$.offers[0].{name}": lambda name=name: offered(**{name: HUGE})  # type: ignore[misc]
        for name in ("max_energy_wh", "min_energy_wh", "max_rise", "max_fall", "max_run_slots", "min_rest_slots")
    },
    **{
        f"$.units[0].{name}": lambda name=name: stored(**{name: HUGE})  # type: ignore[misc]
        for name in ("initial_energy_wh", "max_energy_wh", "min_final_energy_wh", "self_discharge_ppm_per_h")
    },
    **{
        f"$.network.branches[0].{name}": lambda name=name: branched(**{name: HUGE})  # type: ignore[misc]
        for name in ("max_current_ma", "max_from_current_ma", "max_apparent_power_va", "r_ohm", "ratio", "shift_deg")
    },
    **{
        f"$.network.infeed_points[0].{name}": lambda name=name: infed(**{name: HUGE})  # type: ignore[misc]
        for name in ("max_import_w", "max_export_w", "voltage_ppm")
    },
    "$.offers[0].slots[0].max_quantity": lambda: replace(
        base(),
        offers=(replace(base().offers[0], slots=tuple(replace(s, max_quantity=HUGE) for s in base().offers[0].slots)),),
    ),
    "$.offers[0].polygons[0].vertices[0].energy_before_wh": lambda: replace(base(), offers=(sliced(HUGE, 0),)),
    "$.offers[0].polygons[0].vertices[0].energy_wh": lambda: replace(base(), offers=(sliced(0, HUGE),)),
    "$.offers[0].payback.delay_slots": lambda: offered(payback=Payback(factor_ppm=1, delay_slots=HUGE, window_slots=1)),
    "$.offers[0].payback": lambda: offered(payback=Payback(factor_ppm=1, delay_slots=MOST, window_slots=MOST)),
    "$.start_ms": lambda: replace(base(), start_ms=HUGE),
    "$.settings.quantity_step_w": lambda: replace(base(), settings=replace(base().settings, quantity_step_w=HUGE)),
    "$.offers[0].offer_id": lambda: offered(offer_id="a\ud800"),
    "$.case_id": lambda: replace(base(), case_id="\udfff"),
    "$.network.branches[0].branch_id": lambda: branched(branch_id="\ud800\udc00"),
    "$.fixed_awards[0].power[1]": lambda: replace(
        base(), fixed_awards=(FixedAward(award_id="f", bus_id="b2", direction=UP, power=(5, -5)),)
    ),
}


@pytest.mark.parametrize("path", HOSTILE)
def test_a_value_that_nothing_can_hold_is_a_fault_of_the_case_with_its_path(path: str) -> None:
    with pytest.raises(FaultyInputError) as caught:
        clear(HOSTILE[path]())
    assert path in [f.path for f in caught.value.faults]


def test_the_greatest_numbers_of_64_bits_clear() -> None:
    assert clear(offered(max_energy_wh=MOST, max_rise=MOST, max_fall=MOST, min_rest_slots=MOST)).offers


FILES: dict[str, tuple[str, str, Any]] = {
    "half a surrogate pair": ("offers/0/offer_id", "$.offers[0].offer_id", "\ud800"),
    "a payback beyond time": (
        "offers/0/payback",
        "$.offers[0].payback",
        {"factor_ppm": 1_000_000, "delay_slots": MOST, "window_slots": MOST},
    ),
    "a start beyond the calendar": ("start_ms", "$.start_ms", MOST),
}


@pytest.mark.parametrize("name", FILES)
def test_the_command_names_the_fault_and_leaves_no_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where, path, value = FILES[name]
    content = json.loads(case_to_text(base()))
    target = content
    *way, last = where.split("/")
    for step in way:
        target = target[int(step) if isinstance(target, list) else step]
    target[last] = value
    given, out, page = tmp_path / "case.json", tmp_path / "result.json", tmp_path / "report.html"
    given.write_text(json.dumps(content))
    monkeypatch.setattr("sys.argv", ["flexbus", "clear", str(given), "--out", str(out), "--report", str(page)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert path in told
    assert "Traceback" not in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case.json"]


def test_a_result_replaces_the_one_before_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, out = tmp_path / "case.json", tmp_path / "result.json"
    given.write_text(case_to_text(base()))
    out.write_text("old")
    monkeypatch.setattr("sys.argv", ["flexbus", "clear", str(given), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(out.read_text())["format"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case.json", "result.json"]
