"""How a comparison is run and told: setups and cases, the processes of each, turns, tables, targets, a plot.

Who takes part is in ``peers``.
"""
