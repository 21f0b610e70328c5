"""What people do with registered models at a terminal or in a browser: ask, serve, try, look, promote."""
