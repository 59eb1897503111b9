"""How measurements are made of images: operators for inverse problems, and the noise on top.

A floor above `corruption` and below the samplers that undo them. `base.py` is the contract; every other file is one
kind of measurement.
"""
