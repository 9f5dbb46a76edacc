"""The schedule of `make chaos`: nobody is spared."""

import random

import pytest

from streams.services import SERVICES
from tests.chaos.__main__ import restless
from tests.chaos.bus import SECOND
from tests.chaos.schedule import schedule

WORKERS = [*(f"{s} 0" for s in SERVICES), *(f"{s} 1" for s in SECOND)]


def kinds(strikes: list[tuple[str, str]], what: str) -> list[str]:
    return [name.partition(" ")[0] for did, name in strikes if did == what]


@pytest.mark.parametrize("seed", range(20))
def test_the_full_form_kills_pauses_and_doubles_every_kind(seed: int) -> None:
    strikes = schedule(WORKERS, random.Random(seed), 100)
    assert len(strikes) == 100
    assert set(kinds(strikes, "kill")) == {*SERVICES, "broker"}
    assert set(kinds(strikes, "pause")) == set(kinds(strikes, "twin")) == set(SERVICES)
    assert {name for what, name in strikes if what == "guest"} == {f"{kind} 2" for kind in SECOND}
    assert kinds(strikes, "kill").count("broker") == 2
    assert len(kinds(strikes, "stall")) == 10


@pytest.mark.parametrize("seed", range(20))
def test_the_short_form_kills_every_kind_pauses_and_doubles_two_and_has_two_guests(seed: int) -> None:
    strikes = schedule(WORKERS, random.Random(seed), 23)
    killed = kinds(strikes, "kill")
    assert len(strikes) == 23
    assert set(killed) == {*SERVICES, "broker"}
    assert (len(killed), killed.count("broker"), len(kinds(strikes, "stall"))) == (17, 2, 2)
    assert len({*kinds(strikes, "pause"), *kinds(strikes, "twin")}) == 2
    assert len(set(kinds(strikes, "guest"))) == 2


def test_a_seed_gives_one_schedule() -> None:
    first, again, other = (schedule(WORKERS, random.Random(seed), 23) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("kills", [1, 2, 3, 5, 30])
def test_any_number_of_strikes_can_be_had(kills: int) -> None:
    assert len(schedule(WORKERS, random.Random(1), kills)) == kills


def test_a_process_that_ends_again_and_again_by_itself_is_told() -> None:
    strikes = {"kill clearing": 1, "pause clearing": 1, "stall broker": 2}
    starts = {"clearing 0": 7, "clearing 1": 8, "monitor 0": 3, "publisher 0": 4}
    assert restless(starts, strikes) == [
        "clearing 1 was started 8 times, at most 7",
        "publisher 0 was started 4 times, at most 3",
    ]
