"""Systems that find masks in images."""
