"""The OAuth 2.1 and OpenID Connect provider: how apps that are not ours act for people who agreed to it.

apps/      who may be a client, which enterprise has installed it, what which person granted
rules.py   what the protocol promises, decided without I/O
store.py   requests, families of tokens, browsers that have logged in
flows.py   internal actions: authorize, log in, decide, exchange, revoke, introspect, log out
tokens.py  the tokens that apps get, and the principals that they stand for
web.py     HTTP in and out of the flows; pages.py what people see
"""
