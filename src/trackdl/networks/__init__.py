"""The networks, one file each; `build` makes one by its name."""
