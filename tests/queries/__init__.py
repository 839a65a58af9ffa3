"""What is asked: searches, pages, timelines."""
