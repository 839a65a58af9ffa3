"""What goes out: requests, the outbox, the dispatcher."""
