"""The machine: paths, processes, terminal, databases, and a digest of the code."""
