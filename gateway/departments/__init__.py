"""The tree of departments and who is in them."""
