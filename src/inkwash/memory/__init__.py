"""How much memory there is, how much is used, and how much of a piece of work fits into a limit."""
