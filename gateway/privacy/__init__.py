"""Personal data: unmasking with a reason, a copy for its owner, forgetting."""
