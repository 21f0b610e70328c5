"""The heart disease table: checked cells, the split of its rows, and rows encoded as a network's inputs."""
