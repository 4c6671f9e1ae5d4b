"""`python -m archlang` is the command `archlang`."""

from archlang.cli import main

main()
