"""The OAuth 2.1 and OpenID Connect provider: how apps that are not ours act for people who agreed to it.

apps/         who may be a client, which enterprise has installed it, what which person granted
rules.py      what the protocol promises, decided without I/O
store.py      requests, families of tokens, browsers that have logged in
authorize.py  from a request to a code: log in, choose, agree; sign_in.py the same inside our own app
exchange.py   codes, refresh tokens and clients' proofs for tokens; clients.py their proofs
inquiries.py  userinfo, introspection, revocation, the bridge; leaving.py logout, backchannel.py apps that hear of it
tokens.py     the tokens that apps get, and the principals that they stand for
sealing.py    what pages give back
web.py        HTTP in and out of all that; pages.py what people see; cookies.py
"""
