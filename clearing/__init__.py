"""The clearing package of flexbus."""
