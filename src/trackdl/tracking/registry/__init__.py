"""Registered models: registered, promoted, and their files checked."""
