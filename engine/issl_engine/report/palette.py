"""Colours of figures that matplotlib draws: those of the page on white paper."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31")
"""Okabe and Ito's colours, which colour-blind readers tell apart, darkened where white paper needs it."""
INK = "#333333"
