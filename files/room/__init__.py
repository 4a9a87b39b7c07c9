"""Room: quotas, how an enterprise keeps its files, and holds."""
