"""签约: how an enterprise signs with the bank."""
