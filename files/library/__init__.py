"""The library: files as people see them, the contents behind them, and who may see which."""
