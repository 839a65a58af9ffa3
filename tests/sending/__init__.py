"""What goes out: requests checked, submissions sent once, answers believed."""
