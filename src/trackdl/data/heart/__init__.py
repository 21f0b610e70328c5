"""The heart table: its cells checked, its rows and split, and rows made a network's inputs."""
