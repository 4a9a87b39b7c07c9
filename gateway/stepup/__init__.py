"""Confirming one call before it is made. What is spent, and how, is `core.stepup`."""
