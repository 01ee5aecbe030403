"""Measuring dreams by pixels, masks, motion, objects and obedience. Undefined scores are counted, never faked."""

from vap_sim.metrics.detector import Detector, DetectorScore, score
from vap_sim.metrics.fidelity import copy_first_frame, moving_gain, moving_pixels, psnr
from vap_sim.metrics.masks import Scores, mean_frame_iou, st_iou
from vap_sim.metrics.motion import motion_masks, motion_st_iou
from vap_sim.metrics.trust import PromptAgreement

__all__ = [
    "Detector",
    "DetectorScore",
    "PromptAgreement",
    "Scores",
    "copy_first_frame",
    "mean_frame_iou",
    "motion_masks",
    "motion_st_iou",
    "moving_gain",
    "moving_pixels",
    "psnr",
    "score",
    "st_iou",
]
