"""Scans: volumes read with their place in the world, and written back onto the same grid."""
