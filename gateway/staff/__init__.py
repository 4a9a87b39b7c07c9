"""The bank's operations staff: a tenant of their own."""
