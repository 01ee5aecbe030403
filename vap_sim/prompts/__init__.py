"""Visual action prompts: robot skeletons drawn as cameras would see them."""

from vap_sim.prompts.profiles import DepthCue, DrawProfile, GroupStyle, profile, profile_names
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.prompts.skeleton import draw_skeletons
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

__all__ = [
    "DepthCue",
    "DrawProfile",
    "GroupStyle",
    "Prompter",
    "ReferenceClip",
    "VisualPrompt",
    "draw_skeletons",
    "profile",
    "profile_names",
    "silhouettes",
]
