"""What `make chaos` strikes, in which order: every kind of process is killed, paused and doubled in turn."""

import random
from collections.abc import Iterator, Sequence

__all__ = ["schedule"]

STALL_EVERY = 10
KILLS_FIRST = 15  # a short schedule has so many kills of processes before it spends strikes on pauses and twins
OTHERS_OF = 4  # in a long one every fourth strike at a process is a pause or a twin

Strike = tuple[str, str]


def schedule(workers: Sequence[str], chance: random.Random, kills: int) -> list[Strike]:
    """Return strikes as what ("kill", "stall", "pause", "twin") and whom ("broker", or a worker's name).

    Args:
        workers: names of the processes: service, space, slot.
        chance: decides whom and when.
        kills: number of strikes.
    """
    at_broker = dict.fromkeys(range(STALL_EVERY, kills + 1, STALL_EVERY), "stall")
    at_broker |= dict.fromkeys((kills // 3, 2 * kills // 3), "kill")
    at_broker.pop(0, None)
    count = kills - len(at_broker)
    at_workers = iter(_strikes(workers, chance, count, min(count // OTHERS_OF, max(0, count - KILLS_FIRST))))
    return [
        (at_broker[number], "broker") if number in at_broker else next(at_workers) for number in range(1, kills + 1)
    ]


def _strikes(workers: Sequence[str], chance: random.Random, count: int, others: int) -> Iterator[Strike]:
    """Yield strikes at processes, that many of them pauses and twins by turns, spread evenly."""
    slots: dict[str, list[str]] = {}
    for worker in workers:
        slots.setdefault(worker.partition(" ")[0], []).append(worker)
    kinds = chance.sample(sorted(slots), len(slots))
    # The twins go round half a turn behind the pauses: a short schedule has them at different kinds.
    turns = {"pause": kinds, "twin": kinds[len(kinds) // 2 :] + kinds[: len(kinds) // 2]}
    victims: list[str] = []
    done = 0
    for number in range(1, count + 1):
        if done < number * others // count:
            what = ("pause", "twin")[done % 2]
            kind = turns[what][done // 2 % len(kinds)]
            done += 1
            yield what, chance.choice(slots[kind])
        else:
            victims = victims or chance.sample(sorted(workers), len(workers))
            yield "kill", victims.pop()
