"""`make bench`: speed as ratios against a bare loop in the same run, on the same machine, over the same data.

Rates depend on the machine and on who else uses it; a ratio of two loops that ran one after the other does less so.
Beside the ratios stand the figures that the project promises as such: rates per core, and how soon an offer is visible.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from streams.process import collect_seldom
from tests.bench import clearing, core, days, scale, soak

_BENCHES: dict[str, Callable[[int], Iterator["core.Ratio | core.Figure"]]] = {
    "codec": core.codec_rates,
    "view": core.view_rates,
    "replay": core.replay_rates,
    "sequencer": core.sequencer_rates,
    "visible": soak.visible_figures,
    "growth": core.growth_rates,
    "days": days.day_growth,
    "day": scale.large_day,
    "area": scale.area_figures,
    "clearing": clearing.day_rates,
    "slots": clearing.slot_rates,
    "hostile": clearing.hostile_rates,
    "budgets": clearing.budget_rates,
}
_UNLESS_NAMED = ("growth", "days")  # python -m tests.bench growth --events=1000000


@dataclass(frozen=True, slots=True)
class _Options:
    names: list[str]
    events: int
    as_json: bool


def _options(arguments: list[str]) -> _Options:
    events, names, as_json = 20_000, [], False
    for argument in arguments:
        if argument == "--json":
            as_json = True
        elif argument.startswith("--events="):
            events = int(argument.removeprefix("--events="))
        elif argument in _BENCHES:
            names.append(argument)
        else:
            sys.exit(f"usage: python -m tests.bench [{' '.join(_BENCHES)}] [--events=N] [--json]")
    return _Options(names or [b for b in _BENCHES if b not in _UNLESS_NAMED], events, as_json)


def main() -> int:
    options = _options(sys.argv[1:])
    collect_seldom()  # as every service does
    if not options.as_json:
        print(f"{'what':44} {'per second':>11} {'bare loop':>11} {'ratio':>6} {'at least':>9}")
    failed = False
    for name in options.names:
        for found in _BENCHES[name](options.events):
            failed = failed or not found.holds
            if options.as_json:
                further = {"ratio": found.ratio} if isinstance(found, core.Ratio) else {"reached": found.reached}
                print(json.dumps(asdict(found) | further), flush=True)
            else:
                print(_line(found), flush=True)
    return 1 if failed else 0


def _line(found: core.Ratio | core.Figure) -> str:
    mark = "" if found.holds else "  MISSED"
    if isinstance(found, core.Ratio):
        least = "" if found.least is None else f"{found.least:9.2f}"
        return f"{found.what:44} {found.rate:11.0f} {found.bare:11.0f} {found.ratio:6.2f} {least}{mark}"
    bound = "at most" if found.at_most else "at least" if found.binding else "aimed at"
    mark = mark or ("" if found.reached else "  not reached")
    return f"{found.what:48} {found.value:10.5g} {found.unit}, {bound} {found.target:g}{mark}"


if __name__ == "__main__":
    sys.exit(main())
