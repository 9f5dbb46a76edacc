"""The flexbus package of flexbus."""
