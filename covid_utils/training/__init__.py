"""Training floor: features, heads, networks; every run ends in a predictions file."""
