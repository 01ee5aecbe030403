"""The renderer for machines with a GL library: the same triangles and colours, drawn by pyrender."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import MissingDependency
from vap_sim.prompts.projection import Floats
from vap_sim.prompts.surface import SeenSurface, Surface


def draw_with_gl(
    surface: Surface, seen: SeenSurface, size: tuple[int, int], samples: int, z_near: float
) -> tuple[NDArray[np.uint8], Floats]:
    """What `rasterize` gives, drawn off the screen by pyrender.

    Raises MissingDependency where pyrender or a GL library is absent. Where no screen is set, EGL is asked for, unless
    the environment variable PYOPENGL_PLATFORM says otherwise.
    """
    pyrender = _pyrender()
    width, height = size
    fine = width * samples, height * samples
    rgb = np.zeros((len(seen.rays), height, width, 3), dtype=np.uint8)
    depth = np.full(rgb.shape[:-1], np.inf, dtype=np.float32)
    with _old_names_of_numpy():
        canvas = _canvas(pyrender, fine)
        try:
            for row, rays in enumerate(seen.rays):
                if rays[:, 2].max() > z_near:
                    _draw(pyrender, canvas, surface, rays, seen.colors[row], samples, z_near, rgb[row], depth[row])
        finally:
            canvas.delete()
    return rgb, depth


def _draw(
    pyrender: Any,
    canvas: Any,
    surface: Surface,
    rays: Floats,
    colors: NDArray[np.uint8],
    samples: int,
    z_near: float,
    rgb: NDArray[np.uint8],
    depth: Floats,
) -> None:
    height, width = depth.shape
    # In units of one focal length of `width` pixels the rays are points before a camera at the origin, whatever its
    # intrinsics; GL looks along -z with y up and counts pixels from their corners.
    points = rays * (1 / width, -1 / width, -1)
    lit = np.repeat(colors.astype(np.float32) / 255, 3, axis=0)
    lit = np.concatenate([lit, np.ones_like(lit[:, :1])], axis=1)
    # Some of pyrender's modes leave out what is wound the other way, whatever the material says: each side has its own.
    sides = points[np.concatenate([surface.triangles, surface.triangles[:, ::-1]])]
    primitive = pyrender.Primitive(
        positions=sides.reshape(-1, 3).astype(np.float32),
        color_0=np.concatenate([lit, lit]),
        material=pyrender.MetallicRoughnessMaterial(baseColorFactor=(1.0, 1.0, 1.0, 1.0)),
        mode=pyrender.constants.GLTF.TRIANGLES,
    )
    scene = pyrender.Scene(bg_color=(0.0, 0.0, 0.0, 0.0))
    node = scene.add(pyrender.Mesh([primitive]))
    middle, focal, far = samples / 2, float(width * samples), float(1.01 * rays[:, 2].max() + z_near)
    scene.add(pyrender.IntrinsicsCamera(focal, focal, middle, middle, znear=z_near, zfar=far))
    flags = pyrender.RenderFlags
    fine, _ = canvas.render(scene, flags=flags.FLAT)
    blocks = fine[..., :3].astype(np.uint32).reshape(height, samples, width, samples, 3)
    rgb[:] = (blocks.sum(axis=(1, 3)) + samples * samples // 2) // (samples * samples)
    # Only this mode samples at the pixel's centre; the picture in colour has several samples a pixel, placed by GL.
    marked, distance = canvas.render(scene, flags=flags.SEG, seg_node_map={node: (255, 255, 255)})
    centre = (slice(samples // 2, None, samples),) * 2
    depth[:] = np.where(marked[centre][..., 0] > 0, distance[centre], np.inf)


def _pyrender() -> Any:
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    try:
        import pyrender
    except ModuleNotFoundError as error:
        raise MissingDependency("pyrender", "gl", "The renderer 'software' does without.") from error
    except Exception as error:  # PyOpenGL raises a different type for every way a library can be absent
        raise _no_library(error) from error
    return pyrender


def _canvas(pyrender: Any, size: tuple[int, int]) -> Any:
    try:
        return pyrender.OffscreenRenderer(*size)
    except Exception as error:
        raise _no_library(error) from error


def _no_library(error: Exception) -> MissingDependency:
    note = f"It needs EGL or OSMesa, which the system brings ({type(error).__name__}: {error})."
    return MissingDependency("A GL library for pyrender", "gl", note)


@contextmanager
def _old_names_of_numpy() -> Iterator[None]:
    """pyrender still says numpy.infty, which numpy 2 has dropped; the name exists while pyrender is at work."""
    names = vars(np)
    if "infty" in names:
        yield
        return
    names["infty"] = np.inf
    try:
        yield
    finally:
        del names["infty"]
