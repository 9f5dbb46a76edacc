"""What Faust is kept from doing."""

import asyncio

from faust.types import TP

from streams.faust_app import new_app
from streams.kafka import Connection


def test_a_worker_does_not_wait_for_the_rows_of_another() -> None:
    async def recovers() -> tuple[bool, int]:
        recovery = new_app("congestion", Connection("127.0.0.1:1"), "congestion-0").tables.recovery
        rows = TP("flexbus-congestion-congestion-changelog", 0)
        recovery.active_highwaters[rows], recovery.active_offsets[rows] = 7, 2
        assert recovery.active_remaining_total() == 5
        return recovery.need_recovery(), recovery.app.conf.table_standby_replicas

    assert asyncio.run(recovers()) == (False, 0)
