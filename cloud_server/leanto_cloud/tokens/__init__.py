"""Who gives out one-time tokens (issuer, accounts), and who takes them (redeemer). The two never need to speak to each other."""
