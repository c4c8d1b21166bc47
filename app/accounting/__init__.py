"""Who spent what: prices, budgets of access tokens."""
