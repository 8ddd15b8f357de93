"""Branching vessels and bronchi of the lungs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chest_phantom.geometry import Grid, along, paint_tubes

if TYPE_CHECKING:
    from chest_phantom.habitus import Habitus

#: Ends of the arteries and of the veins in one lung.
ENDS = {"artery": 560, "vein": 330}
#: How strongly short ways to the hilum are preferred over a short tree (0 is the shortest tree).
BALANCE = 0.8
#: Radius of a branch's end in mm.
LEAF_MM = 0.72
#: Distance of the balls that a branch is painted with, in mm.
STEP_MM = 1.8
#: Radius from which an artery's bronchus is drawn, in mm.
BRONCHUS_FROM = 1.15


@dataclass(frozen=True)
class Tree:
    """Coverage of the grid by vessels, and by bronchi without and with their walls, in 0-1."""

    vessel: np.ndarray
    lumen: np.ndarray
    wall: np.ndarray


def grow(rng: np.random.Generator, body: Habitus, grid: Grid, inside: np.ndarray) -> Tree:
    """Grow arteries with their bronchi, and veins, from each hilum into its lung.

    ``inside`` is the distance into the lung in mm (z, y, x).
    """
    middle = grid.size // 2
    vessel, bronchus = [], []
    for side, columns in ((-1, slice(0, middle)), (1, slice(middle, grid.size))):
        half = inside[..., columns]
        free = np.flatnonzero(half > 2.5)
        for kind, ends in ENDS.items():
            chosen = np.unravel_index(rng.choice(free, ends, replace=False), half.shape)
            voxels = np.stack(chosen, 1)
            voxels[:, 2] += columns.start
            places = voxels * grid.spacing + grid.origin + rng.uniform(-1.2, 1.2, (ends, 3))
            root = (body.carina - (24 if kind == "artery" else 40), 10.0, side * 30.0)
            points, radii = _branch(rng, np.array(root), places)
            vessel.append((points, radii))
            if kind == "artery":
                large = radii > BRONCHUS_FROM
                beside = np.array((-0.3, 0.75, 0.45 * side)) * (1.9 * radii[large] + 0.6)[:, None]
                bronchus.append((points[large] + beside, np.maximum(0.9 * radii[large], 1.15)))
    bronchus.append(_airway(body))
    points, radii = _joined(bronchus)
    walls = paint_tubes(grid, points, radii + np.clip(0.17 * radii, 0.8, 1.6))
    lumen = paint_tubes(grid, points, radii)
    return Tree(paint_tubes(grid, *_joined(vessel)), lumen, walls)


def _joined(samples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    points, radii = zip(*samples, strict=True)
    return np.concatenate(points), np.concatenate(radii)


def _airway(body: Habitus) -> tuple[np.ndarray, np.ndarray]:
    """Trachea and main bronchi: points and radii of the lumen in mm."""
    lean, carina = body.lean, body.carina
    trachea = [(319, 2, lean / 2, 8.5), (carina + 45, 12, lean, 8.5), (carina, 20, lean + 1, 9.5)]
    right = [(carina + 2, 20, lean, 8.0), (carina - 14, 18, -18, 6.8), (carina - 30, 16, -32, 5.0)]
    left = [(carina + 2, 20, lean, 7.5), (carina - 14, 20, 20, 6.0), (carina - 25, 20, 42, 4.6)]
    return _joined([along(waypoints, 2.4) for waypoints in (trachea, right, left)])


def _branch(
    rng: np.random.Generator, root: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Join end points to a tree and sample its branches.

    The tree is a greedy minimum spanning tree whose cost also counts the way back to the root, as
    Cuntz et al. (2010, PLoS Computational Biology 6:e1000877) describe for neurons. Radii follow
    Murray's law: the cube of a branch's radius is the sum of its daughters' cubes; each node adds
    the cube of an end, for the lung around it.

    Returns:
        Points (n, 3) about `STEP_MM` apart, and radii in mm (n,).
    """
    nodes = np.vstack([root, ends])
    nodes = nodes[np.argsort(np.linalg.norm(nodes - root, axis=1), kind="stable")]
    squares = np.square(nodes).sum(1)
    gap = np.sqrt(np.maximum(squares[:, None] + squares - 2 * _products(nodes), 0))
    parent = np.zeros(len(nodes), int)
    way = np.zeros(len(nodes))
    for node in range(1, len(nodes)):
        cost = gap[node, :node] + BALANCE * way[:node]
        parent[node] = cost.argmin()
        way[node] = way[parent[node]] + gap[node, parent[node]]
    cubes = np.full(len(nodes), LEAF_MM**3)
    for node in range(len(nodes) - 1, 0, -1):
        cubes[parent[node]] += cubes[node]
    return _sample(rng, nodes, parent, gap, np.cbrt(cubes))


def _products(nodes: np.ndarray) -> np.ndarray:
    """Inner products of all nodes, without BLAS so that every machine rounds alike."""
    return sum(np.multiply.outer(column, column) for column in nodes.T)


def _sample(
    rng: np.random.Generator,
    nodes: np.ndarray,
    parent: np.ndarray,
    gap: np.ndarray,
    radii: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Points along slightly bent branches, each with its branch's radius."""
    child = np.arange(1, len(nodes))
    start, end = nodes[parent[1:]], nodes[child]
    count = np.maximum(2, np.ceil(gap[child, parent[1:]] / STEP_MM)).astype(int)
    bend = rng.normal(0, 0.07, start.shape) * gap[child, parent[1:]][:, None]
    branch = np.repeat(np.arange(len(child)), count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    part = (step / count[branch])[:, None]
    points = start[branch] * (1 - part) + end[branch] * part
    points += bend[branch] * 4 * part * (1 - part)
    return points.astype(np.float32), radii[child][branch].astype(np.float32)
