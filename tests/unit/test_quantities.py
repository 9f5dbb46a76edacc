"""Units, rounding and local days."""

from datetime import date

import pytest

from flexbus.quantities import Direction, amount_nano, cents, energy_wh
from flexbus.time import Period, iso, local_day, parse_ms


def test_money_is_exact_until_the_invoice_line() -> None:
    assert energy_wh(1000, 900) == 250
    # 250 Wh at 80 EUR/MWh is 2 cents
    assert amount_nano(250, 80_000) == 20_000_000
    assert cents(20_000_000) == 2


@pytest.mark.parametrize(("nano", "rounded"), [(5_000_000, 1), (4_999_999, 0), (-5_000_000, -1), (-4_999_999, 0)])
def test_cents_round_half_away_from_zero(nano: int, rounded: int) -> None:
    assert cents(nano) == rounded


def test_directions_have_a_sign() -> None:
    assert Direction.UP.sign == 1
    assert Direction.DOWN.sign == -1


@pytest.mark.parametrize(
    ("day", "quarter_hours"), [(date(2027, 3, 28), 92), (date(2027, 10, 31), 100), (date(2027, 6, 1), 96)]
)
def test_local_days_have_92_96_or_100_quarter_hours(day: date, quarter_hours: int) -> None:
    assert local_day(day, "Europe/Helsinki").slots(900) == quarter_hours


def test_periods_are_half_open() -> None:
    first, second = Period(0, 10), Period(10, 20)
    assert first.contains(0)
    assert not first.contains(10)
    assert not first.overlaps(second)
    with pytest.raises(ValueError, match="ends"):
        Period(1, 0)
    with pytest.raises(ValueError, match="multiple"):
        Period(0, 1_000_000).slots(900)


def test_times_need_an_offset() -> None:
    assert iso(parse_ms("2027-06-01T12:00:00+03:00")) == "2027-06-01T09:00:00Z"
    with pytest.raises(ValueError, match="offset"):
        parse_ms("2027-06-01T12:00:00")
