"""Restoration: one prior, and every way in which an image can have been measured."""
