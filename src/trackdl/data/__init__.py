"""Data: where files come from (`download`), and how they become tensors or tables."""
