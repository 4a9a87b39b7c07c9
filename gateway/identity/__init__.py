"""People, enterprises, memberships with roles, logins and sessions."""
