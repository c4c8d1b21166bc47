"""Who spent what: the ledger of calls and its sums, prices, budgets of access tokens."""
