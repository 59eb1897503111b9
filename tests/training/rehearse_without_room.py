"""A rehearsal where there is room for eight tensors, and one where there is all: whether each found room."""

from heavy import TENSOR, Heavy, options
from standin import Squares

from inkwash.memory import heap, machine
from inkwash.memory.fit import BEYOND
from inkwash.training.rehearsal import Rehearsal

rehearsal, free = Rehearsal(Heavy(), Squares(), options(), None), machine.free
weights = [parameter.clone() for parameter in rehearsal.system.parameters()]
with heap.eager():
    machine.free = lambda device=None: 8 * TENSOR
    little = rehearsal(1, False).peak
    assert all(one.equal(other) for one, other in zip(weights, rehearsal.system.parameters()))
    machine.free = free
    print(little < BEYOND, rehearsal(1, False).peak < BEYOND)
