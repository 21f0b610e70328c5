"""Pure functions of arrays and tables of results."""
