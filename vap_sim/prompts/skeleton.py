"""Drawing skeletons: batches of projected key points to anti-aliased pictures, far bones first, limbs before bones."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.prompts.profiles import DrawProfile
from vap_sim.prompts.projection import Bools, Floats, as_floats, clip_frame, clip_near
from vap_sim.prompts.warping import warp_pixels
from vap_sim.robots.camera import NEAREST_DEPTH
from vap_sim.robots.skeleton import SkeletonSpec

# OpenCV softens the edge of a polygon outwards; measured over all directions this adds that much to every side.
_SOFT_EDGE = np.float32(0.72)
# Corners of a line piece, as turns of its direction: both ends to one side, the tip at the far end, both ends to the
# other side, the tip at the near end.
_CORNERS = np.array([1j, 1j, 1, -1j, -1j, -1], dtype=np.complex64)
_SUBPIXEL_BITS = 8
_ROWS_AT_ONCE = 128
_DEPTH_STEPS = 256  # a metre
_BEHIND = 1 << 20  # depth steps; float32 still tells single steps apart
# In picture sizes. OpenCV clips to the picture by itself; sub-pixel units must stay within 32 bits.
_REACH = 16


Complexes = NDArray[np.complex64]
"""Points of a picture, x + iy: turning, scaling and moving them takes one operation each."""


@dataclass(frozen=True, eq=False)
class DrawPlan:
    """A skeleton, a profile and a picture size brought into arrays once, for S line pieces and D discs.

    The marks of a plan are the S beginnings and S ends of the pieces and the D centres, in this order, M = 2S + D.
    """

    profile: DrawProfile
    size: tuple[int, int]
    pieces: int
    marks: NDArray[np.intp]  # (M,) the key point of each mark; where bones are dashed, the start of its bone
    others: NDArray[np.intp] | None  # (M,) the end of its bone, None where no bone is dashed
    shares: tuple[Floats, Floats]  # each (M, 1): what start and end count in where a mark lies
    outline: NDArray[np.intp]  # (S, 6) the mark at each corner of a line piece
    half_width: Floats  # (M, 1) half a line's width or a disc's radius: pixels, or metres where the profile says so
    bounds: Floats  # (2, 1 or M, 1) least and most of half widths without their soft edge, pixels
    reach: np.float32  # coordinates beyond +-reach pixels are cut off, far outside the picture
    colors: Floats  # (S + D, 3)
    palette: list[list[int]]
    circle: Complexes  # (K,) corners of a disc of radius 1
    behind: Floats | None  # (S + D,) what puts limbs behind all bones in the painter's order, None without limbs


def plan_drawing(skeleton: SkeletonSpec, profile: DrawProfile, size: tuple[int, int]) -> DrawPlan:
    """Everything about drawing `skeleton` into pictures of (width, height) that does not depend on the pose."""
    if len(size) != 2 or min(size) < 1:
        raise InvalidInput("picture size", size, "(width, height) of at least 1 pixel each")
    height = size[1]
    scale = float(height) if profile.unit == "height_share" else 1.0
    bones, share, half_width, colors = _line_pieces(skeleton, profile)
    centres, radii, disc_colors = _discs(skeleton, profile)
    limbs, rounds = _limbs(skeleton, profile)
    lines, joints = len(bones), len(centres)
    bones, share = bones + [ends for ends, _, _ in limbs], share + [(0.0, 1.0)] * len(limbs)
    half_width, colors = half_width + [radius for _, radius, _ in limbs], colors + [color for _, _, color in limbs]
    centres, radii = centres + [point for point, _, _ in rounds], radii + [radius for _, radius, _ in rounds]
    disc_colors = disc_colors + [color for _, _, color in rounds]
    all_colors = np.array(colors + disc_colors, dtype=np.float32).reshape(-1, 3)
    low, high = 0.5 * profile.thinnest * height, 0.5 * profile.thickest * height
    bounds = np.array([low, high], np.float32).reshape(2, 1, 1)
    behind = None
    if limbs:
        of_pieces, of_discs = np.arange(len(bones)) >= lines, np.arange(len(centres)) >= joints
        limb = np.concatenate([of_pieces, of_pieces, of_discs])[:, None]
        bounds = np.where(limb, np.array([0, _REACH * height], np.float32).reshape(2, 1, 1), bounds)
        behind = np.where(np.concatenate([of_pieces, of_discs]), np.float32(_BEHIND), np.float32(0))
    corners = _corners_of_disc(high if not limbs else height)
    angle = (np.arange(corners) + 0.5) * (2 * np.pi / corners)
    ends = np.array(bones, dtype=np.intp).reshape(-1, 2)
    first, last = np.arange(len(ends)), np.arange(len(ends)) + len(ends)
    on_bones = np.array(share, dtype=np.float32).reshape(-1, 2).T.reshape(-1, 1)
    on_all = np.concatenate([on_bones, np.zeros((len(centres), 1), np.float32)])
    discs = np.array(centres, dtype=np.intp)
    dashed = any(style.dashes > 1 for style in profile.groups)
    return DrawPlan(
        profile=profile,
        size=size,
        pieces=len(ends),
        marks=np.concatenate([ends[:, 0], ends[:, 0] if dashed else ends[:, 1], discs]),
        others=np.concatenate([ends[:, 1], ends[:, 1], discs]) if dashed else None,
        shares=(1 - on_all, on_all),
        outline=np.stack([first, last, last, last, first, first], axis=-1),
        half_width=np.array([*half_width, *half_width, *radii], dtype=np.float32)[:, None] * np.float32(scale),
        bounds=np.maximum(bounds - _SOFT_EDGE, np.float32(0)),
        reach=np.float32(_REACH * max(size)),
        colors=all_colors,
        palette=np.rint(all_colors).astype(int).tolist(),
        circle=np.exp(1j * angle).astype(np.complex64),
        behind=behind,
    )


def _line_pieces(
    skeleton: SkeletonSpec, profile: DrawProfile
) -> tuple[list[tuple[int, int]], list[tuple[float, float]], list[float], list[list[float]]]:
    """For each piece: the numbers of its bone's key points, its share of the bone, half its width, its colour."""
    number = {point.name: index for index, point in enumerate(skeleton.points)}
    bones, share, half_width, colors = [], [], [], []
    for bone in skeleton.bones:
        style = profile.style(bone.group)
        steps = 2 * style.dashes - 1 if style is not None else 0
        for dash in range(0, steps, 2):
            bones.append((number[bone.start], number[bone.end]))
            share.append((dash / steps, (dash + 1) / steps))
            half_width.append(0.5 * style.width if style is not None else 0.0)
            colors.append([float(level) for level in bone.color])
    return bones, share, half_width, colors


def _discs(skeleton: SkeletonSpec, profile: DrawProfile) -> tuple[list[int], list[float], list[list[float]]]:
    """For each disc: the number of its key point, radius and colour. A point belongs to the first bone it is on."""
    starts = {bone.start for bone in skeleton.bones}
    number = {point.name: index for index, point in enumerate(skeleton.points)}
    radii: dict[int, float] = {}
    colors = []
    for bone in skeleton.bones:
        style = profile.style(bone.group)
        for point in (bone.start, bone.end):
            if style is None or number[point] in radii or (style.discs_on == "tips" and point in starts):
                continue
            if style.disc > 0:
                radii[number[point]] = style.disc
                colors.append([level + profile.joint_tint * (255.0 - level) for level in bone.color])
    return list(radii), list(radii.values()), colors


_Limb = tuple[tuple[int, int], float, list[float]]
_Round = tuple[int, float, list[float]]


def _limbs(skeleton: SkeletonSpec, profile: DrawProfile) -> tuple[list[_Limb], list[_Round]]:
    """The limbs of bones that say how thick they are: the numbers of both key points, radius, colour; and what rounds
    them off: at each key point a disc as thick as the thickest limb there."""
    number = {point.name: index for index, point in enumerate(skeleton.points)}
    limbs: list[_Limb] = []
    rounds: dict[int, _Round] = {}
    for bone in skeleton.bones if profile.limbs else ():
        if bone.radius is not None:
            ends, color = (number[bone.start], number[bone.end]), [profile.limbs * level for level in bone.color]
            limbs.append((ends, bone.radius, color))
            for point in ends:
                if point not in rounds or rounds[point][1] < bone.radius:
                    rounds[point] = (point, bone.radius, color)
    return limbs, list(rounds.values())


def _corners_of_disc(radius: float) -> int:
    return 10 if radius < 8 else 24


def draw_skeletons(
    xy: Tensor,
    depth: Tensor,
    skeleton: SkeletonSpec,
    size: tuple[int, int],
    profile: DrawProfile,
    *,
    focal: Tensor | float | None = None,
) -> Tensor:
    """Pictures (..., H, W, 3) uint8 RGB of projected skeletons, on black.

    xy: (..., P, 2) pixels and depth: (..., P) metres, as `Camera.project` gives them for the skeleton's P points, also
    behind the camera: bones are cut where they pass the near plane. size: (width, height). focal: (...) pixels, or one
    number for all; needed by profiles in metres. Raises InvalidInput for wrong shapes and where focal is missing.
    """
    points = len(skeleton.points)
    if xy.ndim < 2 or xy.shape[-2:] != (points, 2):
        raise InvalidInput("xy", tuple(xy.shape), f"(..., {points}, 2), one row a key point")
    if depth.shape != xy.shape[:-1]:
        raise InvalidInput("depth", tuple(depth.shape), f"{tuple(xy.shape[:-1])}, as xy without its last axis")
    lead = tuple(depth.shape[:-1])
    z = as_floats(depth).reshape(-1, points, 1)
    # `Camera.project` divides by no less than this; multiplying by the same gives back what is linear in space.
    rays = np.concatenate([as_floats(xy).reshape(-1, points, 2) * np.maximum(z, np.float32(NEAREST_DEPTH)), z], axis=-1)
    if not np.isfinite(rays).all():
        raise InvalidInput("xy and depth", "values that are not finite", "finite numbers")
    focals = None if focal is None else torch.as_tensor(focal, dtype=torch.float32)
    if focals is None and profile.unit == "metres":
        raise InvalidInput("focal", None, f"a focal length in pixels, because profile {profile.name!r} is in metres")
    if focals is not None and focals.shape not in ((), lead):
        raise InvalidInput("focal", tuple(focals.shape), f"one number or {lead}")
    lengths = None if focals is None else as_floats(focals.expand(lead)).reshape(-1)
    pictures = draw_rays(plan_drawing(skeleton, profile, size), rays, lengths)
    return torch.from_numpy(pictures).reshape(*lead, size[1], size[0], 3)


def draw_rays(plan: DrawPlan, rays: Floats, focal: Floats | None, warps: Floats | None = None) -> NDArray[np.uint8]:
    """Pictures (N, H, W, 3) of rays (N, P, 3), which are (u*z, v*z, z); focal: (N,) pixels, for profiles in metres;
    warps: homographies (N, 3, 3) that move what is drawn, widths excepted.

    The inside of `draw_skeletons`: no checks. Each picture is a function of its own rays and focal length alone.
    """
    width, height = plan.size
    pictures = np.zeros((len(rays), height, width, 3), dtype=np.uint8)
    for first in range(0, len(rays), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        focals, moves = (None if values is None else values[rows] for values in (focal, warps))
        _draw_rows(plan, rays[rows], focals, moves, pictures[rows])
    return pictures


def _draw_rows(
    plan: DrawPlan, rays: Floats, focal: Floats | None, warps: Floats | None, pictures: NDArray[np.uint8]
) -> None:
    lines, discs, depth, seen = _polygons(plan, rays, focal, warps)
    # Mirrored fingers are often equally far: in rough steps the list decides between them, not the last bit of a float.
    nearness = np.rint(depth * np.float32(-_DEPTH_STEPS))
    if plan.behind is not None:
        nearness -= plan.behind
    counts = [depth.shape[1]] * len(rays)
    if seen is not None:
        counts = seen.sum(axis=-1).tolist()
        nearness = np.where(seen, nearness, np.float32(np.inf))
    order = nearness.argsort(axis=-1, kind="stable").tolist()
    shades = _shades(plan, depth)
    draw, soft = cv2.fillConvexPoly, cv2.LINE_AA
    for row, picture in enumerate(pictures):
        polygons = [*lines[row], *discs[row]]
        colors = plan.palette if shades is None else shades[row]
        for item in order[row][: counts[row]]:
            draw(picture, polygons[item], colors[item], soft, _SUBPIXEL_BITS)


def _polygons(
    plan: DrawPlan, rays: Floats, focal: Floats | None, warps: Floats | None
) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats, Bools | None]:
    """Corners of lines (N, S, 6, 2) and discs (N, D, K, 2) in sub-pixel units; then (N, S + D), lines before discs, the
    depth for the painter's order and which are seen, None for all.

    The branches only skip work: what is drawn of one row is the same whether or not another row needs cutting.
    """
    pieces, profile = plan.pieces, plan.profile
    marks = rays.take(plan.marks, axis=1)
    if plan.others is not None:
        marks = plan.shares[0] * marks + plan.shares[1] * rays.take(plan.others, axis=1)
    z, seen = marks[..., 2:], None
    if z.min(initial=np.inf) < profile.z_near:
        marks, seen = _cut_near(marks, pieces, profile.z_near)
        z = marks[..., 2:]
    xy = marks[..., :2] / z
    if warps is not None:
        xy, ahead = warp_pixels(xy, warps)
        shown = np.concatenate([ahead[:, :pieces] & ahead[:, pieces : 2 * pieces], ahead[:, 2 * pieces :]], axis=-1)
        seen = shown if seen is None else seen & shown
    half = plan.half_width
    if profile.unit == "metres" and focal is not None:
        half = half * focal[:, None, None] / z
    half = np.minimum(np.maximum(half - _SOFT_EDGE, plan.bounds[0]), plan.bounds[1])
    if half.shape != z.shape:
        half = np.broadcast_to(half, z.shape)
    if not np.abs(xy).max(initial=0) <= plan.reach:
        xy, half, shown = _cut_frame(xy, half, pieces, plan.reach)
        seen = shown if seen is None else seen & shown
    lines, discs = _corners(plan, xy.view(np.complex64)[..., 0], half[..., 0])
    depth = np.concatenate([0.5 * (z[:, :pieces, 0] + z[:, pieces : 2 * pieces, 0]), z[:, 2 * pieces :, 0]], axis=-1)
    return lines, discs, depth, seen


def _cut_near(marks: Floats, pieces: int, z_near: float) -> tuple[Floats, Bools]:
    """The marks with line pieces cut at the near plane, and which pieces and discs have something in front of it."""
    start, end, left = clip_near(marks[:, :pieces], marks[:, pieces : 2 * pieces], z_near)
    centre = marks[:, 2 * pieces :]
    in_front = centre[..., 2] >= z_near
    centre = np.where(in_front[..., None], centre, np.array([0, 0, 1], dtype=np.float32))
    return np.concatenate([start, end, centre], axis=1), np.concatenate([left, in_front], axis=-1)


def _cut_frame(xy: Floats, half: Floats, pieces: int, reach: np.float32) -> tuple[Floats, Floats, Bools]:
    """Marks (N, M, 2) and half widths with line pieces cut at `reach`, and which pieces and discs are left."""
    p, q, centre = xy[:, :pieces], xy[:, pieces : 2 * pieces], xy[:, 2 * pieces :]
    half_p, half_q = half[:, :pieces], half[:, pieces : 2 * pieces]
    enter, leave, touches = clip_frame(p, q, reach)
    step, taper, whole = q - p, half_q - half_p, leave >= 1
    q, half_q = np.where(whole, q, p + leave * step), np.where(whole, half_q, half_p + leave * taper)
    p, half_p = p + enter * step, half_p + enter * taper
    shown = np.concatenate([touches, (np.abs(centre) <= reach).all(axis=-1)], axis=-1)
    # What is not drawn may lie too far out for sub-pixel units.
    cut = np.minimum(np.maximum(np.concatenate([p, q, centre], axis=1), -reach), reach)
    return cut, np.concatenate([half_p, half_q, half[:, 2 * pieces :]], axis=1), shown


def _corners(plan: DrawPlan, marks: Complexes, half: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Hexagons (N, S, 6, 2) around line pieces, whose pointed ends close the gaps where bones meet, and discs
    (N, D, K, 2), in sub-pixel units, from marks and half widths (N, M)."""
    rows, pieces, split = len(marks), plan.pieces, 6 * plan.pieces
    step = marks[:, pieces : 2 * pieces] - marks[:, :pieces]
    along = step / np.maximum(np.abs(step), np.float32(1e-3))
    corners = np.empty((rows, split + (marks.shape[1] - 2 * pieces) * len(plan.circle)), dtype=np.complex64)
    lines = corners[:, :split].reshape(rows, pieces, 6)
    np.multiply(along[..., None] * _CORNERS, half.take(plan.outline, axis=1), out=lines)
    lines += marks.take(plan.outline, axis=1)
    discs = corners[:, split:].reshape(rows, -1, len(plan.circle))
    np.multiply(half[:, 2 * pieces :, None], plan.circle, out=discs)
    discs += marks[:, 2 * pieces :, None]
    corners *= np.float32(1 << _SUBPIXEL_BITS)
    fixed = np.rint(corners.view(np.float32)).astype(np.int32)
    return fixed[:, : 2 * split].reshape(rows, pieces, 6, 2), fixed[:, 2 * split :].reshape(*discs.shape, 2)


def _shades(plan: DrawPlan, depth: Floats) -> list[list[list[int]]] | None:
    """Colours (N, S + D, 3) darkened with depth, or None where the profile keeps them constant."""
    cue = plan.profile.depth_cue
    if cue is None:
        return None
    share = (depth - np.float32(cue.near)) / np.float32(cue.far - cue.near)
    brightness = 1 - np.float32(1 - cue.dimmest) * np.minimum(np.maximum(share, np.float32(0)), np.float32(1))
    shades: list[list[list[int]]] = np.rint(plan.colors * brightness[..., None]).astype(int).tolist()
    return shades
