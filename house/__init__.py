"""The front door's rooms: composition of a process, supervision, doctor and lints. Only `bankhub.py` comes in here."""
