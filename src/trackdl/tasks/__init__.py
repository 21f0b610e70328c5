"""The tasks, one module each: they wire data, model, training and tracking, and have no mechanism of their own."""
