"""The targets of `make fuzz`, a short while: by hypothesis, and coverage-guided as there."""

import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.known import DOORS
from tests.fuzz.targets import A_TENTH, TARGETS, meddled, seeds


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A valid input that somebody has meddled with: with its bytes, its values or both."""
    whole = draw(st.sampled_from(seeds()[name]))
    for _ in range(draw(st.integers(0, 3))):
        whole = meddled(name, whole, draw(st.randoms(use_true_random=False)))
    return draw(cut(whole) if draw(st.booleans()) else st.just(whole))


@st.composite
def cut(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes of which some were changed, put in, cut off, or are there twice."""
    value = bytearray(whole)
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, len(value)))
        match draw(st.sampled_from("xicd")):
            case "x":
                value[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "i":
                value[place:place] = draw(st.binary(max_size=8))
            case "c":
                del value[place : place + draw(st.integers(1, 40))]
            case _:
                value[place:place] = value[place : place + draw(st.integers(1, 200))]
    return bytes(value)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in A_TENTH])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_comes_is_taken_or_refused_with_its_faults(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(st.binary(max_size=300) | mutated(name)))


@pytest.mark.parametrize("name", sorted(A_TENTH))
@settings(deadline=None, max_examples=settings().max_examples // 10, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_is_accepted_is_folded_by_everybody_without_faults(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(st.binary(max_size=300) | mutated(name)))


@pytest.mark.parametrize("door", DOORS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_all_of_several_faults_are_named(door: str, seed: int) -> None:
    known, missed = DOORS[door](random.Random(seed))
    assert len(known) > 1, "too few to tell"
    assert not missed, f"of {known} the refusal does not name {missed}"


@pytest.mark.slow
def test_the_fuzzer_finds_nothing() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "sequencer", "RUNS=2000"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.endswith("runs: 2000, crashes: 0\n"), found.stdout + found.stderr


def test_the_fuzzer_would_find_something(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("flexbus.codec.type_of", refuse)
    with pytest.raises(ZeroDivisionError):
        TARGETS["sequencer"](seeds()["sequencer"][0])
