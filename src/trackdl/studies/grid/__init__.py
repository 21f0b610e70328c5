"""The exhaustive study: its cells, the process that drives it, its fits, and what follows from it."""
