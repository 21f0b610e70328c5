"""Tables: their cells read and checked, the split of their rows, and rows encoded as a network's inputs."""
