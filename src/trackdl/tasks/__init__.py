"""The tasks, one module each. They connect data, network, training and tracking, and implement nothing themselves."""
