"""Check a published clearing without a solver, with no code of the formulation that made it.

`certify(case, result)` recomputes, from the two files alone: hashes, every offer's own rules, deliveries and
money, the AC state of every slot and every limit in it, nodal prices from the limits that bind, and the lower
bound from the published multipliers. Needs numpy and nothing else.
"""

from clearing.certificate.certify import Certified, Finding, certify

__all__ = ["Certified", "Finding", "certify"]
