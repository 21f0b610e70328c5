"""Models of a table: networks trained by protocols, scikit-learn's baselines, and their comparison on the same rows."""
