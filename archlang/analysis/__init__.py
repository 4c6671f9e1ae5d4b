"""Reads a graph, changes nothing: cost, conditions, expectations."""
