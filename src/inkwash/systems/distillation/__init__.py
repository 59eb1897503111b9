"""Distillation: a trained generator taught to draw in a few evaluations of its network. One method, one file."""
