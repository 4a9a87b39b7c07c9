"""Office work: approvals, attendance, contacts, travel, expenses and the office's tools.

Nothing is here yet. The package keeps its floor: above `im` and `notify`, below `gateway`, beside the other services.
"""
