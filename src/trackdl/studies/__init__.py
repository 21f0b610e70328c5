"""The face of Optuna: where studies are kept, the exhaustive one, and the search."""
