"""Evaluation floor: metrics and intervals, computed from counts and predictions only."""
