"""The parts of `inkwash compare`: its plan, the divisions of the data, the work, the figures, the pages."""
