"""Data: where bytes come from (`sources`), and how they become tensors (`images`, `pictures`, `greek`, `heart`)."""
