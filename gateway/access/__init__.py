"""What people may do: their grants out of memberships and roles."""
