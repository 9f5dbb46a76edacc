"""The page while delivery runs: voltages, loadings and delivered power follow the meters as they are read."""

import json
import uuid

import pytest
from playwright.sync_api import Page, expect

from flexbus import events as ev
from streams.kafka import Connection
from tests.integration.page_served import Day, Served, opened, write
from tests.page_day import FSPS, READ_EVERY, blocks, history

pytestmark = pytest.mark.browser

ONE = 52  # slot of one o'clock, where the clock of these tests stands


def test_the_diagram_and_the_orders_follow_the_readings(page: Page, served: Served, connection: Connection) -> None:
    events = history()
    started = [k for k, (_, e, _) in enumerate(events) if isinstance(e, ev.DeliveryStarted)]
    assert not any(isinstance(e, ev.SettlementDue | ev.DeliveryComputed) for _, e, _ in events[: started[60]])
    area = f"read-{uuid.uuid4().hex[:8]}"
    chain = blocks(events, size=1, area_id=area)
    first, second = started[ONE] + 1, started[ONE + READ_EVERY] + 1
    write(connection, chain[:first])
    served.wait_for(area, first)
    opened(page, served, Day(area, first))
    expect(page.locator("#steps .now")).to_contain_text("Delivery")
    expect(page.get_by_role("radio", name="Metered")).to_have_attribute("aria-checked", "true")
    # It is one o'clock; the newest reading is of the quarter-hour before.
    expect(page.locator("#slot-text")).to_contain_text("12:45–13:00")
    source = page.locator("#grid-source")
    expect(source).to_have_text("● measured: 10 points read, the rest as forecast")
    page.get_by_role("tab", name="Activations & delivery").click()
    body = page.locator("#tab-body")
    expect(body).to_contain_text("◷ read 12/25")
    expect(page.locator("#bars-readout")).to_contain_text("delivered ▼")

    page.locator("#element").select_option("bus F1.13")
    page.locator("#slot").fill(str(ONE))
    expect(source).to_have_text("○ plan: nothing read in this quarter-hour, shown as cleared")
    detail = page.locator("#detail dl.modes")
    expect(detail).to_contain_text("as planned, not read")
    planned = detail.locator("dd").last.inner_text()
    assert planned == detail.locator("dd").nth(1).inner_text()  # forecast, cleared, metered

    write(connection, chain[first:second])
    expect(source).to_have_text("● measured: 10 points read, the rest as forecast")
    expect(detail).to_contain_text("metered (est.)")
    expect(detail.locator("dd").last).not_to_have_text(planned)
    expect(body).to_contain_text("◷ read 16/25")
    state = json.loads(served.get(f"/state?area={area}")[1])["sections"]
    assert "deliveries" not in state

    for role, party in (("FSP", FSPS[0]), ("METER_OPERATOR", "meter-co"), ("TSO", "tso-north"), ("OBSERVER", "")):
        seen = json.loads(served.get(f"/state?area={area}&role={role}&party={party}")[1])["sections"]
        assert "readings" not in seen
        assert not any(name.endswith("/metered") for name in seen.get("grid", {}))

    write(connection, chain[second:])
    expect(page.locator("#steps .now")).to_have_text("Settled")
    expect(body).not_to_contain_text("◷ read")
