"""Sessions: one login on one device, its refresh tokens, and the failures that slow guessing down."""
