"""The restart measurement fails where a service is slow, or did not use its checkpoints."""

import pytest

from tests.bench.restart import READY_S, problems_of


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        ({"restored_s": READY_S, "from_checkpoints": 4}, 0),
        ({"restored_s": READY_S + 0.1, "from_checkpoints": 4}, 1),
        ({"restored_s": 1.0, "from_checkpoints": 3}, 1),
        ({"restored_s": READY_S + 1, "from_checkpoints": 0}, 2),
    ],
)
def test_a_slow_start_and_an_unused_checkpoint_are_told(found: dict[str, float], problems: int) -> None:
    assert len(list(problems_of(found, wanted=4))) == problems
