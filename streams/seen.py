"""The ids that an area has seen, for ever, each with a digest of what came under it.

The newest lie in a dict, the others in sorted runs of 36 bytes an id, a fifth of what a dict takes, and as fast to
read from a checkpoint as bytes are. Runs double in size, so there are few of them and each id is sorted few times.
"""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIGEST_BYTES", "ID_BYTES", "Seen"]

ID_BYTES, DIGEST_BYTES = 16, 12
NEWEST = 10_000
_KEY_BYTES = 8
_ROW = np.dtype(f"V{ID_BYTES + DIGEST_BYTES}")
_Run = tuple[NDArray[np.uint64], NDArray[Any]]


class Seen:
    """A map from id (16 bytes) to digest (12 bytes); nothing is ever taken out, and no id is added twice.

    Args:
        packed: what `packed` gave.
    """

    __slots__ = ("_newest", "_runs")

    def __init__(self, packed: bytes = b"") -> None:
        self._newest: dict[bytes, bytes] = {}
        self._runs: list[_Run] = []
        if packed:
            count = len(packed) // (_KEY_BYTES + _ROW.itemsize)
            keys = np.frombuffer(packed, np.uint64, count)
            self._runs.append((keys, np.frombuffer(packed, _ROW, count, count * _KEY_BYTES)))

    def __len__(self) -> int:
        return len(self._newest) + sum(len(keys) for keys, _ in self._runs)

    def get(self, event_id: bytes) -> bytes | None:
        """Return the digest of an id, None if it was never seen."""
        found = self._newest.get(event_id)
        if found is not None or not self._runs:
            return found
        key = np.uint64(_key(event_id))
        for keys, rows in self._runs:
            at = int(keys.searchsorted(key))
            while at < len(keys) and keys[at] == key:
                row = rows[at].tobytes()
                if row.startswith(event_id):
                    return bytes(row[ID_BYTES:])
                at += 1
        return None

    def add(self, event_id: bytes, digest: bytes) -> None:
        """Remember an id."""
        self._newest[event_id] = digest
        if len(self._newest) >= NEWEST:
            self._sort()

    def packed(self) -> bytes:
        """Return everything as bytes."""
        keys, rows = _merged([*self._runs, _run(self._newest)])
        return keys.tobytes() + rows.tobytes()

    def _sort(self) -> None:
        run = _run(self._newest)
        self._newest = {}
        while self._runs and len(self._runs[-1][0]) <= 2 * len(run[0]):
            run = _merged([self._runs.pop(), run])
        self._runs.append(run)


def _run(entries: dict[bytes, bytes]) -> _Run:
    keys = np.fromiter((_key(i) for i in entries), np.uint64, len(entries))
    rows = np.frombuffer(b"".join(i + d for i, d in entries.items()), _ROW)
    return _merged([(keys, rows)])


def _merged(runs: list[_Run]) -> _Run:
    keys = np.concatenate([k for k, _ in runs])
    rows = np.concatenate([r for _, r in runs])
    order = keys.argsort(kind="stable")
    return keys[order], rows[order]


def _key(event_id: bytes) -> int:
    # Senders choose their ids; a hash keeps them from choosing many that lie in one place.
    return int.from_bytes(blake2b(event_id, digest_size=_KEY_BYTES).digest(), "little")
