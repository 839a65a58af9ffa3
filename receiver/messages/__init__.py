"""Where both meet: the message, its state, its store."""
