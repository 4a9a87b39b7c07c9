"""The core banking system of laptops: there is none yet, so this looks at nothing but the shape of the account number.

A real one answers whether the account is the enterprise's, open, and whether the legal person is who is on file; it
comes with finance and is handed to the gateway by the composition root.
"""

from __future__ import annotations

from gateway.ports import CoreAnswer


class EmbeddedCore:
    """Accepts every number of 12 to 32 digits; one that ends in 0000 is refused, so that a refusal can be seen."""

    async def check(
        self, *, enterprise: str, credit_code: str, account_no: str, legal_person: str
    ) -> CoreAnswer:
        """See `gateway.ports.CoreCheck`."""
        if account_no.endswith("0000"):
            return CoreAnswer(False, "账户不属于该企业")
        return CoreAnswer(True)
