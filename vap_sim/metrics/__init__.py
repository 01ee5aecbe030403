"""Measuring dreams by pixels, masks, motion, objects and obedience. Undefined scores are counted, never faked."""

from vap_sim.metrics.baselines import codec_round_trip
from vap_sim.metrics.clip_network import ClipNetwork
from vap_sim.metrics.contours import contour_accuracy, j_and_f, region_similarity
from vap_sim.metrics.detector import Detector, DetectorScore, score
from vap_sim.metrics.extractors import I3d, NamedExtractor
from vap_sim.metrics.fidelity import copy_first_frame, moving_gain, moving_pixels, psnr
from vap_sim.metrics.fixed_filters import FixedFilters
from vap_sim.metrics.frechet import frechet_distance
from vap_sim.metrics.likeness import appearance_consistency, temporal_consistency, text_similarity
from vap_sim.metrics.masks import Scores, mean_frame_iou, st_iou
from vap_sim.metrics.motion import motion_masks, motion_st_iou
from vap_sim.metrics.obedience import prompt_agreement, shipped_detector_card
from vap_sim.metrics.perceptual import Lpips
from vap_sim.metrics.point_tracks import LucasKanade, Tracker, Tracks, motion_fidelity
from vap_sim.metrics.report import Clips, Figure, NetworkCard, Report, figure
from vap_sim.metrics.similarity import ssim
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.metrics.video_distance import clip_features, together, video_distance

__all__ = [
    "ClipNetwork",
    "Clips",
    "Detector",
    "DetectorScore",
    "Figure",
    "FixedFilters",
    "I3d",
    "Lpips",
    "LucasKanade",
    "NamedExtractor",
    "NetworkCard",
    "PromptAgreement",
    "Report",
    "Scores",
    "Tracker",
    "Tracks",
    "appearance_consistency",
    "clip_features",
    "codec_round_trip",
    "contour_accuracy",
    "copy_first_frame",
    "figure",
    "frechet_distance",
    "j_and_f",
    "mean_frame_iou",
    "motion_fidelity",
    "motion_masks",
    "motion_st_iou",
    "moving_gain",
    "moving_pixels",
    "prompt_agreement",
    "psnr",
    "region_similarity",
    "score",
    "shipped_detector_card",
    "ssim",
    "st_iou",
    "temporal_consistency",
    "text_similarity",
    "together",
    "video_distance",
]
