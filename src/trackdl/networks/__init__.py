"""The networks, each in a file; `build` makes one by its name."""
