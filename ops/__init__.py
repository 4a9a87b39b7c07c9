"""What bank operations staff run: broadcasts, users, versions, feedback, advertisements, apps, content, statistics.

Nothing is here yet. The package keeps its floor: above `im` and `notify`, below `gateway`, beside the other services.
"""
