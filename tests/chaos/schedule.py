"""What `make chaos` strikes, in which order: every kind of process is killed, paused and doubled in turn.

Kinds of which there are several get a guest in turn, too: one more that joins them and leaves.
"""

import random
from collections.abc import Iterator, Sequence

__all__ = ["schedule"]

STALL_EVERY = 10
KILLS_FIRST = 15  # a short schedule has so many kills of processes before it spends strikes on the others
OTHERS = ("guest", "pause", "twin")
OTHERS_PERCENT = 35  # of the strikes at processes in a long one

Strike = tuple[str, str]


def schedule(workers: Sequence[str], chance: random.Random, kills: int) -> list[Strike]:
    """Return strikes as what ("kill", "stall", "guest", "pause", "twin") and whom ("broker", or a worker's name).

    A guest bears the number after those of its kind; kinds with one worker get none.

    Args:
        workers: names of the processes: service, space, slot.
        chance: decides whom and when.
        kills: number of strikes.
    """
    at_broker = dict.fromkeys(range(STALL_EVERY, kills + 1, STALL_EVERY), "stall")
    at_broker |= dict.fromkeys((kills // 3, 2 * kills // 3), "kill")
    at_broker.pop(0, None)
    count = kills - len(at_broker)
    at_workers = iter(_strikes(workers, chance, count, min(count * OTHERS_PERCENT // 100, max(0, count - KILLS_FIRST))))
    return [
        (at_broker[number], "broker") if number in at_broker else next(at_workers) for number in range(1, kills + 1)
    ]


def _strikes(workers: Sequence[str], chance: random.Random, count: int, others: int) -> Iterator[Strike]:
    """Yield strikes at processes, that many of them guests, pauses and twins by turns, spread evenly, none the last."""
    slots: dict[str, list[str]] = {}
    for worker in workers:
        slots.setdefault(worker.partition(" ")[0], []).append(worker)
    kinds = chance.sample(sorted(slots), len(slots))
    # The twins go round half a turn behind the pauses: a short schedule has them at different kinds.
    turns = {"pause": kinds, "twin": kinds[len(kinds) // 2 :] + kinds[: len(kinds) // 2]}
    turns["guest"] = [kind for kind in kinds if len(slots[kind]) > 1]
    victims: list[str] = []
    done = 0
    for number in range(1, count + 1):
        if done < (number * others + count // 2) // count:
            what = OTHERS[done % len(OTHERS)]
            kind = turns[what][done // len(OTHERS) % len(turns[what])]
            done += 1
            name = f"{kind} {len(slots[kind])}" if what == "guest" else chance.choice(slots[kind])
            if name in victims:  # killed last: not while it is paused, or doubled
                victims.remove(name)
                victims.insert(0, name)
            yield what, name
        else:
            victims = victims or chance.sample(sorted(workers), len(workers))
            yield "kill", victims.pop()
