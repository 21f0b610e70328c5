"""The search: its study, the process that drives it, and training in segments."""
