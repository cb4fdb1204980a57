"""What several tests of this wing share."""

LABELS, SEEDS = [0, 1, 2, 2, 0, 3, 1, 0, 1], list(range(20, 29))
