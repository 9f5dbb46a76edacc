"""Horizons of a conversion: 1 to 192 slots of 5, 15, 30 or 60 minutes, and local days with a clock change."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from clearing import Case, clear
from clearing.certificate import certify
from clearing.check import check_case
from clearing.convert.cases import convert_case
from clearing.convert.errors import ConversionError
from clearing.files import read_case
from flexbus.cli import main

SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)


def made(**more: object) -> Case:
    case = convert_case("matpower", "case33bw", offers=12, **more)  # type: ignore[arg-type]
    assert list(check_case(case)) == []
    return case


def start(case: Case) -> datetime:
    return datetime.fromtimestamp(case.start_ms / 1000, UTC)


def energy_wh(case: Case) -> float:
    return sum(sum(b.power_w) for b in case.baseline) * case.resolution_s / 3600


@pytest.mark.parametrize(
    ("resolution_s", "slots", "hours"),
    [(300, 192, 16), (900, 192, 48), (1800, 192, 96), (3600, 192, 192), (300, 1, 1 / 12), (3600, 1, 1), (1800, 7, 3.5)],
)
def test_a_case_has_up_to_192_slots_of_every_length(resolution_s: int, slots: int, hours: float) -> None:
    case = made(slots=slots, resolution_s=resolution_s)
    assert (case.slots, case.resolution_s, case.slots * case.resolution_s / 3600) == (slots, resolution_s, hours)
    assert {len(b.power_w) for b in case.baseline} == {slots}


def test_a_longer_horizon_goes_on_into_the_days_after() -> None:
    one, two = made(), made(slots=192)
    assert one.start_ms == two.start_ms
    for a, b in zip(one.baseline, two.baseline, strict=True):
        assert b.power_w == a.power_w * 2


def test_fewer_slots_are_the_window_around_the_peak() -> None:
    whole, window = made(), made(slots=24, resolution_s=300)
    totals = [sum(b.power_w[t] for b in whole.baseline) for t in range(96)]
    peak = whole.start_ms + 900_000 * totals.index(min(totals))
    assert window.start_ms <= peak < window.start_ms + 24 * 300_000


def test_averages_keep_the_energy_of_the_day() -> None:
    fine = energy_wh(made())
    for resolution_s in (1800, 3600):
        assert energy_wh(made(slots=86_400 // resolution_s, resolution_s=resolution_s)) == pytest.approx(fine, rel=1e-4)


@pytest.mark.parametrize(
    ("day", "quarters", "first"), [(SPRING, 92, 23), (AUTUMN, 100, 22), (date(2026, 6, 17), 96, 22)]
)
def test_a_local_day_has_92_96_or_100_quarter_hours(day: date, quarters: int, first: int) -> None:
    """It begins at local midnight, and people keep to the clock: an hour is missing, or comes twice."""
    plain = made()
    case = made(slots=None, time_zone="Europe/Berlin", on=day)
    assert (case.slots, case.resolution_s, start(case).hour) == (quarters, 900, first)
    missing, twice = (8, 12) if quarters < 96 else (12, 12), (8, 12) if quarters > 96 else (12, 12)
    for a, b in zip(plain.baseline, case.baseline, strict=True):
        day_w = a.power_w
        assert b.power_w == (*day_w[: missing[0]], *day_w[missing[1] : 12], *day_w[slice(*twice)], *day_w[12:])


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_a_day_with_a_clock_change_in_hours(day: date, hours: int) -> None:
    case = made(slots=hours, time_zone="Europe/Berlin", on=day)
    assert (case.slots, case.resolution_s) == (hours, 3600)


@pytest.mark.parametrize(("day", "quarters"), [(SPRING, 92), (AUTUMN, 100)])
def test_a_day_with_a_clock_change_is_cleared_and_certified(day: date, quarters: int) -> None:
    case = made(slots=None, time_zone="Europe/Berlin", on=day, day="sunny")
    result = clear(case)
    assert len(result.slots) == quarters
    assert certify(case, result).findings == ()


@pytest.mark.parametrize("resolution_s", [300, 3600])
def test_192_slots_are_cleared_and_certified(resolution_s: int) -> None:
    case = made(slots=192, resolution_s=resolution_s)
    result = clear(case)
    assert len(result.slots) == 192
    assert any(any(o.quantity) for o in result.offers)
    assert certify(case, result).findings == ()


def test_what_no_case_can_have_is_said() -> None:
    for more, word in (
        ({"slots": 193}, "1 to 192"),
        ({"slots": 0}, "1 to 192"),
        ({"resolution_s": 600}, "300, 900, 1800, 3600"),
        ({"time_zone": "Europe/Nowhere"}, "Europe/Berlin"),
    ):
        with pytest.raises(ConversionError, match=word):
            made(**more)


def test_the_command_takes_resolution_zone_and_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "case.json"
    words = "convert matpower case33bw --resolution 30 --time-zone Europe/Berlin --date 2026-10-25 --out"
    monkeypatch.setattr("sys.argv", ["flexbus", *words.split(), str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    case = read_case(out.read_text())
    assert (case.slots, case.resolution_s, start(case)) == (50, 1800, datetime(2026, 10, 24, 22, tzinfo=UTC))
