"""The audit: who did what to which object, from where, with which outcome. Ids and digests, never contents.

    rows        one row for every audited action that was carried out, in its transaction, and for every refusal;
                each with a MAC, so that nobody without the key adds one or changes one that is not chained yet
    chain       rows of a tenant get dense numbers and a digest that covers all before: pure functions
    refusals    who got no further than the door: the first of its kind has a row, the others are counted
    changes     what no action does, such as changes of live settings
    chainer     does that beside the requests, about a second later, and seals each batch with SM2
    exports     seals leave the database, so that cutting off its end is found too
    recording   refusals and chainer of a process, which begin before its services and end after them
    verify      walks everything and says where it does not hold: `bankhub verify audit`

Why the chain is not made in the action's own transaction: docs/decisions/0012-audit-chained-beside.md.
"""

from core.audit.rows import Row, row_of
from core.audit.store import insert

__all__ = ["Row", "insert", "row_of"]
