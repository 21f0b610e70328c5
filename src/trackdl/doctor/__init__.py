"""Checks of the machine and the stores."""
