"""What tables of results say: pure functions of arrays and frames."""
