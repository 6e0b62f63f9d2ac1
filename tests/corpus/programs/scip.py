"""Packs circles into a square by SCIP, again and again: nonlinear, so bounds are intervals."""
import random

from pyscipopt import Model, quicksum

while True:
    model = Model()
    model.hideOutput()
    model.setParam("limits/time", 20)
    radii = [random.uniform(0.1, 0.4) for _ in range(7)]
    side = model.addVar(lb=0, ub=10)
    centres = [(model.addVar(lb=r, ub=10), model.addVar(lb=r, ub=10)) for r in radii]
    for (x, y), r in zip(centres, radii):
        model.addCons(x + r <= side)
        model.addCons(y + r <= side)
    for a in range(len(radii)):
        for b in range(a):
            (x, y), (u, v) = centres[a], centres[b]
            model.addCons((x - u) ** 2 + (y - v) ** 2 >= (radii[a] + radii[b]) ** 2)
    model.setObjective(side + quicksum(0.001 * x for x, _ in centres))
    model.optimize()
