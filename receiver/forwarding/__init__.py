"""What goes on: each receipt, after its commit, to the notifyurl that the client itself gave."""
