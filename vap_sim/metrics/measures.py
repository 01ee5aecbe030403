"""The measures that figures may be told of: unit, direction, and the definition that makes them comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """What a figure is a figure of. per_frame: scores have a last axis of frames; network: it rests on a network."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    definition: str
    per_frame: bool = False
    network: bool = False


_ALL = (
    Measure("psnr", "dB", "higher", "10 log10(255^2 / mean squared error over RGB) of each frame", per_frame=True),
    Measure(
        "moving_gain",
        "dB",
        "higher",
        "PSNR where the truth has changed since frame 0, minus that of copying frame 0",
        per_frame=True,
    ),
    Measure(
        "ssim",
        "",
        "higher",
        "structural similarity of each frame and RGB channel, Gaussian window 11, sigma 1.5, population covariance, "
        "range 255, mean over whole windows and channels",
        per_frame=True,
    ),
    Measure(
        "lpips",
        "",
        "lower",
        "learned perceptual distance of each frame, version 0.1 with linear heads; AlexNet and VGG are two scales",
        per_frame=True,
        network=True,
    ),
    Measure(
        "fvd",
        "",
        "lower",
        "Frechet distance of Gaussians fitted to the 400 I3D logits of clips; preprocessing of StyleGAN-V",
        network=True,
    ),
    Measure(
        "video_feature_distance",
        "",
        "lower",
        "Frechet distance of Gaussians fitted to features of clips by the named extractor. This is not FVD.",
        network=True,
    ),
    Measure(
        "region_similarity",
        "",
        "higher",
        "J of DAVIS: 100 times overlap of masks in each frame, 100 where both are empty",
        per_frame=True,
    ),
    Measure(
        "contour_accuracy",
        "",
        "higher",
        "F of DAVIS: 100 times the F-measure of contours in each frame, tolerance 0.008 of the diagonal",
        per_frame=True,
    ),
    Measure("j_and_f", "", "higher", "mean of DAVIS' J and F in each frame, times 100", per_frame=True),
    Measure("st_iou", "", "higher", "pixels in both masks over pixels in either, summed over frames 1 to T"),
    Measure("mean_frame_iou", "", "higher", "overlap of masks, mean over the frames in which either has a pixel"),
    Measure("motion_st_iou", "", "higher", "overlap of motion masks as Physics-IQ defines them, mean over frames"),
    Measure(
        "motion_fidelity",
        "",
        "higher",
        "for each moving point track the mean cosine of its steps with those of the most similar track of the "
        "reference, over steps in which either moves; mean over tracks; trackers are scales of their own",
    ),
    Measure(
        "appearance_consistency",
        "",
        "higher",
        "cosine of CLIP's features of the first frame and each later one, mean over frames",
        network=True,
    ),
    Measure(
        "temporal_consistency",
        "",
        "higher",
        "cosine of CLIP's features of two frames, mean over all pairs of frames",
        network=True,
    ),
    Measure(
        "text_similarity",
        "",
        "higher",
        "cosine of CLIP's features of a frame and of the text, mean over frames",
        network=True,
    ),
    Measure(
        "prompt agreement",
        "",
        "higher",
        "overlap of the robot found in each frame with its silhouette at the prompted joints",
        per_frame=True,
        network=True,
    ),
)
MEASURES: Mapping[str, Measure] = MappingProxyType({measure.name: measure for measure in _ALL})
