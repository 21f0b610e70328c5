"""Fit and evaluate, and what decides how: optimiser, augmentation, device, checkpoints."""
