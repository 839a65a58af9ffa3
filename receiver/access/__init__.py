"""Who may knock: API keys and scopes, notify tokens, signatures."""
