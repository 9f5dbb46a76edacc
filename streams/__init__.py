"""The streams package of flexbus."""
