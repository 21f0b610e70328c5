"""Any picture made 28×28 pixels as a network has learnt them."""
