"""Optuna: where studies are stored, the grid's exhaustive study, and the search. Nothing else imports optuna."""
