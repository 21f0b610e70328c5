"""Uses of registered models from a terminal or a browser: predict, serve, try, list, promote."""
