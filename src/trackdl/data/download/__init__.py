"""Fetching the data sets: every file is verified before it is used."""
