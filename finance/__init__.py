"""Money: ledger, accounts, transfers by maker and reviewer, receipts, statements, deposits, wealth, bills, credit.

Nothing is here yet. Amounts are integer fen (`amount_fen`), never float; `bankhub check` refuses anything else.
"""
