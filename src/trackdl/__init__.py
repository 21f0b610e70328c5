"""trackdl: one published deep-learning report as a workflow to run, compare, search, serve and doubt."""

__version__ = "0.2.0"
