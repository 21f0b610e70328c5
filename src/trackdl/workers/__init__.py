"""Processes that may die, where they run, and one that draws."""
