"""Visual action prompts: robots drawn as cameras would see them, as skeletons or in other forms."""

from vap_sim.prompts.profiles import DepthCue, DrawProfile, GroupStyle, form_names, profile, profile_names
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.rendering import RobotPictures, render_robot
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.prompts.skeleton import draw_skeletons
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

__all__ = [
    "DepthCue",
    "DrawProfile",
    "GroupStyle",
    "Prompter",
    "ReferenceClip",
    "RobotPictures",
    "VisualPrompt",
    "draw_skeletons",
    "form_names",
    "profile",
    "profile_names",
    "render_robot",
    "silhouettes",
]
