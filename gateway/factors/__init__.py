"""Second factors: codes by time (TOTP), recovery codes, and the login that waits for one."""
