r"""A grid made for one model: the times at which so many steps lose least.

The model is first walked finely, once for a few items. On those trajectories the error of any single step is
known without further evaluations: a step is a linear combination of the clean images believed along the way,
and so is the fine walk's path between the same two times; the error is a quadratic form in the matrix of inner
products of those images. Errors of the steps are carried to the end as a Gaussian of the data's size carries them
and their squares added; dynamic programming then finds the grid of least total over all grids of candidate times.

The idea of choosing times by dynamic programming is that of Watson, Ho, Norouzi & Chan, "Learning to efficiently
sample from diffusion probabilistic models", 2021; that of judging steps by their local error against a fine
trajectory, of Chen et al., "On the trajectory regularity of ODE-based diffusion sampling", ICML 2024.
"""
