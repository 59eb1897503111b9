"""How good masks are: overlap, surfaces, calibration, uncertainty, diversity; case by case, class by class."""
