"""The smallest network that goes through all the motions."""

TINY = {"base": 8, "multipliers": "1,2", "attention": "8"}
