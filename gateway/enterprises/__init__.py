"""How enterprises come to be here, and how people ask to join one."""
