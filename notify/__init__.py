"""The inbox: bank notices, approval cards, announcements and offline push, one durable stream a person.

Nothing is here yet. The inbox streams already exist in `hub`; this package will be what writes to them.
"""
