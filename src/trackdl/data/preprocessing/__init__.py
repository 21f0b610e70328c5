"""Any image made 28×28 pixels like those that a network was trained on."""
