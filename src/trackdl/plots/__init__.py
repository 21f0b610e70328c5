"""Figures from results alone."""
