"""A measurement inside somebody's own test: what the pytest plugin does, without pytest."""
