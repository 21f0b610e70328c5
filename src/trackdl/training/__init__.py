"""Training and evaluation: trainer, optimiser, augmentation, device, checkpoints."""
