"""What is asked: one message, many, their timelines."""
