"""The site of a profile: its tables, figures, notebooks and cards, each number with its origin."""
