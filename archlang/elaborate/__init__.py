"""From syntax to IR: compile-time code runs within bounds and leaves only a graph; every error has a place."""
