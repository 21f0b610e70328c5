"""The command line: one thin command a task, and those for models and ledgers."""
