"""The typed graph, and the only package that knows NetworkX.

A node is one operation with its output types; an edge goes from (producer, output) to (consumer, argument). Inputs and
weights are operations too. A block stays a graph of its own and a call to it is one node, so a net of 100 equal blocks
holds one of them. `Graph.net` is the same as a `networkx.MultiDiGraph`, for algorithms; NetworkX takes a fifth of the
time of a cold build to import, so it is imported when one is asked for.
"""

from archlang.ir.chain import Chain, fractions
from archlang.ir.fused_scan import FusedScan
from archlang.ir.graph import Graph, Node, Value, called, infer, listing, numbers
from archlang.ir.operations import Arrange, Call, ChannelsLast, Foreign, Input, Kept, Parameter, Scan, WeightOf
from archlang.ir.rebuild import Rebuild, kept, live, prune
from archlang.ir.tiled_scan import NoLayoutError, TiledScan

__all__ = [
    "Arrange",
    "Call",
    "Chain",
    "ChannelsLast",
    "Foreign",
    "FusedScan",
    "Graph",
    "Input",
    "Kept",
    "NoLayoutError",
    "Node",
    "Parameter",
    "Rebuild",
    "Scan",
    "TiledScan",
    "Value",
    "WeightOf",
    "called",
    "fractions",
    "infer",
    "kept",
    "listing",
    "live",
    "numbers",
    "prune",
]
