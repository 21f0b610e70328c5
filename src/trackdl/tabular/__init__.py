"""Models of a table: networks by protocol, scikit-learn's, and all of them on the same rows."""
