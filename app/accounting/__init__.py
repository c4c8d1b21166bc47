"""Who spent what: the ledger of calls, its sums, and what is read from them."""
